// The dashboard: asks the API whenever something happened, every two seconds while it can't be told, and shows what it
// says. Text from the API is never made into HTML.
"use strict";

// Between two looks: while nobody tells what happens, and at most.
const PAUSE_MS = 2000;
const LONG_PAUSE_MS = 15000;
// What happens within this is one look.
const SOON_MS = 300;
const at = (id) => document.getElementById(id);
const gib = (bytes) => (bytes / 2 ** 30).toFixed(1);
const some = (count, word) => count > 0 && `${count} ${word}`;

async function ask(path, method = "GET", body = undefined) {
  const options = { method, headers: body && { "content-type": "application/json" }, body: body && JSON.stringify(body) };
  const response = await fetch(path, options);
  if (response.status === 401) throw new Error("Run `skep open` in a terminal: it opens this page with a link that signs you in.");
  const text = await response.text();
  if (!response.ok) throw new Error(JSON.parse(text).detail);
  return (response.headers.get("content-type") ?? "").includes("json") ? JSON.parse(text) : text;
}

function cell(content, kind = "td") {
  const cell = document.createElement(kind);
  content instanceof Node ? cell.append(content) : (cell.textContent = content ?? "");
  return cell;
}

function state(word) {
  const span = document.createElement("span");
  span.className = word;
  span.textContent = word;
  return span;
}

function action(label, work) {
  const button = document.createElement("button");
  button.textContent = label;
  button.onclick = () => work().catch(tell);
  return button;
}

function show(id, head, rows) {
  const line = (cells, kind) => {
    const row = document.createElement("tr");
    row.append(...cells.map((content) => cell(content, kind)));
    return row;
  };
  at(id).replaceChildren(line(head, "th"), ...rows.map((cells) => line(cells, "td")));
}

function open(text) {
  at("detail").querySelector("pre").textContent = text;
  at("detail").showModal();
}

function tell(error) {
  at("notice").hidden = !error;
  at("notice").textContent = error?.message ?? "";
}

async function refresh() {
  const [sum, nodes, tasks, agents] = await Promise.all(
    ["/api/status", "/api/nodes", "/api/tasks?limit=20", "/api/agents?limit=20"].map((path) => ask(path)));
  at("sum").textContent = `${sum.online_count} of ${sum.node_count} machines, ${sum.total_cpus} cores, `
    + `${gib(sum.used_ram)} of ${gib(sum.total_ram)} GiB of memory in use`;
  const names = new Map(nodes.map((node) => [node.id, node.name]));
  const name = (id) => names.get(id) ?? id?.slice(0, 8);
  show("nodes", ["Name", "State", "Cores", "CPU", "Memory", "GPU", "Work", "Models"], nodes.map((node) => [
    node.name, state(node.status), node.cpus, `${node.cpu_percent.toFixed(0)} %`,
    `${gib(node.ram_used)} / ${gib(node.ram_total)} GiB`, node.gpu.name,
    [some(node.running, "running"), some(node.queued, "waiting"), node.draining && "draining"].filter(Boolean).join(", "), node.models.join(", ")]));
  show("tasks", ["Command", "State", "Machine", "Since", ""], tasks.map((task) => [
    [task.command, ...task.args].join(" "), state(task.status), name(task.assigned_node), new Date(task.submitted_at).toLocaleTimeString(),
    task.status === "running" || task.status === "pending"
      ? action("End", () => ask(`/api/tasks/${task.id}`, "DELETE"))
      : action("Output", async () => open((await ask(`/api/tasks/${task.id}`)).output || "(nothing)"))]));
  show("agents", ["Goal", "State", "Machine", "Tokens", ""], agents.runs.map((run) => [
    run.goal, state(run.status), name(run.node_id), `${run.tokens} of ${run.budget}`,
    run.status === "running" || run.status === "pending"
      ? action("End", () => ask(`/api/agents/${run.id}/cancel`, "POST"))
      : action("Log", async () => open(await ask(`/api/agents/${run.id}/log`)))]));
}

function form(id, send) {
  at(id).onsubmit = (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(event.target));
    send(fields).then(() => event.target.reset()).catch(tell);
  };
}

form("run", (fields) => ask("/api/tasks", "POST", fields));
form("work", (fields) => ask("/api/agents", "POST", fields));

let timer = 0;
let looking = false;
let again = false;
let told = false;

async function turn() {
  clearTimeout(timer);
  looking = true;
  again = false;
  await refresh().then(() => tell(null), tell);
  looking = false;
  timer = setTimeout(turn, again ? SOON_MS : told ? LONG_PAUSE_MS : PAUSE_MS);
}

function soon() {
  if (!again && !looking) {
    clearTimeout(timer);
    timer = setTimeout(turn, SOON_MS);
  }
  again = true;
}

function listen() {
  const kinds = ["node_joined", "node_updated", "node_offline", "node_left", "task_submitted", "task_updated",
    "agent_started", "agent_updated", "agent_stopped", "missed"];
  // Only what is shown here. The browser connects again by itself, but not after a refusal: then the clock does it.
  const source = new EventSource(`/api/events?types=${kinds.join(",")}`);
  source.addEventListener("connected", () => { told = true; soon(); });
  source.onerror = () => { told = false; soon(); };
  kinds.forEach((kind) => source.addEventListener(kind, soon));
}
turn();
listen();
