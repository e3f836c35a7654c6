//! Runs a parsed template: minijinja reads Jinja, this executes what it read.
//!
//! Its own engine bounds instructions but neither the size of what one of them makes nor how deep values nest, and a
//! failed allocation or a full stack ends the process. Here each step is paid for by [`Fuel`], and one depth bounds
//! statements, expressions and macros together. Jinja that chat templates don't use (imports, call blocks, recursive
//! loops) is refused by name. This file is long because it is one thought: an interpreter.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use minijinja::machinery::ast::{BinOpKind, CallArg, CompareOpKind, Expr, Macro, Stmt, UnaryOpKind};

use super::filters;
use super::methods;
use super::value::{Failure, Fuel, ITEM_BYTES, Value};
use crate::defaults::{PROMPT_BYTES_MAX, TEMPLATE_DEPTH_MAX, TEMPLATE_RANGE_MAX};

/// Arguments of a call: by place and by name.
pub(super) type Arguments<'t> = (Vec<Value<'t>>, BTreeMap<&'t str, Value<'t>>);

/// Where a run of statements goes on.
#[derive(PartialEq)]
enum Flow {
    Next,
    Continue,
    Break,
}

/// One rendering.
pub(super) struct Interpreter<'t> {
    pub(super) fuel: Fuel,
    /// Variables, innermost last. A macro sees its own, from `base` on, and the outermost.
    scopes: Vec<BTreeMap<&'t str, Value<'t>>>,
    base: usize,
    depth: usize,
    output: String,
}

impl<'t> Interpreter<'t> {
    /// With these variables.
    pub(super) fn new(fuel: Fuel, variables: BTreeMap<&'t str, Value<'t>>) -> Self {
        Self { fuel, scopes: vec![variables], base: 0, depth: 0, output: String::new() }
    }

    /// What the template writes.
    pub(super) fn render(mut self, template: &'t Stmt<'t>) -> Result<String, Failure> {
        self.statement(template)?;
        Ok(self.output)
    }

    /// Runs `work` one level deeper.
    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        if self.depth >= TEMPLATE_DEPTH_MAX {
            return Err("the template nests too deep".to_owned());
        }
        self.fuel.pay(0)?;
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        if self.output.len() + text.len() > PROMPT_BYTES_MAX {
            return Err("the template wrote too much".to_owned());
        }
        self.fuel.pay(text.len())?;
        self.output.push_str(text);
        Ok(())
    }

    fn run(&mut self, body: &'t [Stmt<'t>]) -> Result<Flow, Failure> {
        for statement in body {
            let flow = self.statement(statement)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// What `body` writes, as a text.
    fn captured(&mut self, body: &'t [Stmt<'t>]) -> Result<Value<'t>, Failure> {
        let outer = std::mem::take(&mut self.output);
        let ran = self.run(body);
        let text = std::mem::replace(&mut self.output, outer);
        ran.map(|_| Value::Text(text.into()))
    }

    fn scoped<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        self.scopes.push(BTreeMap::new());
        let result = work(self);
        self.scopes.pop();
        result
    }

    fn statement(&mut self, statement: &'t Stmt<'t>) -> Result<Flow, Failure> {
        self.deeper(|this| this.statement_inside(statement))
    }

    fn statement_inside(&mut self, statement: &'t Stmt<'t>) -> Result<Flow, Failure> {
        match statement {
            Stmt::Template(template) => return self.run(&template.children),
            Stmt::EmitRaw(raw) => self.write(raw.raw)?,
            Stmt::EmitExpr(emit) => {
                let value = self.expression(&emit.expr)?;
                let mut text = String::new();
                self.fuel.show(&value, false, &mut text)?;
                self.write(&text)?;
            }
            Stmt::ForLoop(_) => self.repeat(statement)?,
            Stmt::IfCond(cond) => {
                let holds = self.expression(&cond.expr)?.is_true();
                return self.run(if holds { &cond.true_body } else { &cond.false_body });
            }
            Stmt::WithBlock(with) => {
                return self.scoped(|this| {
                    for (target, expr) in &with.assignments {
                        let value = this.expression(expr)?;
                        this.assign(target, value)?;
                    }
                    this.run(&with.body)
                });
            }
            Stmt::Set(set) => {
                let value = self.expression(&set.expr)?;
                self.assign(&set.target, value)?;
            }
            Stmt::SetBlock(set) => {
                let text = self.captured(&set.body)?;
                let value = match &set.filter {
                    Some(filter) => self.filter(filter, Some(text))?,
                    None => text,
                };
                self.assign(&set.target, value)?;
            }
            Stmt::FilterBlock(block) => {
                let text = self.captured(&block.body)?;
                let filtered = self.filter(&block.filter, Some(text))?;
                let filtered = filtered.as_text()?.clone();
                self.write(&filtered)?;
            }
            Stmt::AutoEscape(block) => return self.run(&block.body),
            Stmt::Macro(definition) => {
                self.set(definition.name, Value::Macro(definition));
            }
            Stmt::Continue(_) => return Ok(Flow::Continue),
            Stmt::Break(_) => return Ok(Flow::Break),
            Stmt::Do(call) => drop(self.call(&call.call.expr, &call.call.args)?),
            Stmt::CallBlock(_) => return Err("call blocks are not supported".to_owned()),
        }
        Ok(Flow::Next)
    }

    fn repeat(&mut self, statement: &'t Stmt<'t>) -> Result<(), Failure> {
        let Stmt::ForLoop(of) = statement else { return Ok(()) };
        if of.recursive {
            return Err("recursive loops are not supported".to_owned());
        }
        let over = self.expression(&of.iter)?;
        let mut items = self.items(&over)?;
        if let Some(filter) = &of.filter_expr {
            let mut kept = Vec::new();
            for item in items {
                let keep = self.scoped(|this| {
                    this.assign(&of.target, item.clone())?;
                    this.expression(filter).map(|value| value.is_true())
                })?;
                kept.extend(keep.then_some(item));
            }
            items = kept;
        }
        if items.is_empty() {
            return self.scoped(|this| this.run(&of.else_body)).map(drop);
        }
        for index in 0..items.len() {
            let place = self.place(&items, index)?;
            let flow = self.scoped(|this| {
                this.set("loop", place);
                this.assign(&of.target, items[index].clone())?;
                this.run(&of.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// What `loop` is at this place.
    fn place(&mut self, items: &[Value<'t>], index: usize) -> Result<Value<'t>, Failure> {
        let int = |number: usize| Value::Int(number as i64);
        let neighbour = |at: Option<usize>| at.and_then(|at| items.get(at)).cloned().unwrap_or(Value::Undefined);
        let entries = [
            ("index", int(index + 1)),
            ("index0", int(index)),
            ("revindex", int(items.len() - index)),
            ("revindex0", int(items.len() - index - 1)),
            ("length", int(items.len())),
            ("first", Value::Bool(index == 0)),
            ("last", Value::Bool(index + 1 == items.len())),
            ("previtem", neighbour(index.checked_sub(1))),
            ("nextitem", neighbour(index.checked_add(1))),
        ];
        self.fuel.map(entries.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// What a loop, a filter or `in` goes over.
    pub(super) fn items(&mut self, value: &Value<'t>) -> Result<Vec<Value<'t>>, Failure> {
        let items: Vec<Value<'t>> = match value {
            Value::List(list) => list.inner.clone(),
            Value::Map(map) => map.inner.keys().map(|key| Value::Text(key.clone())).collect(),
            Value::Text(text) => {
                self.fuel.pay(text.len() * ITEM_BYTES)?;
                text.chars().map(|character| Value::text(character.encode_utf8(&mut [0; 4]))).collect()
            }
            Value::Undefined => Vec::new(),
            other => return Err(format!("{} is nothing to go over", other.kind())),
        };
        self.fuel.pay(items.len() * ITEM_BYTES)?;
        Ok(items)
    }

    fn set(&mut self, name: &'t str, value: Value<'t>) {
        self.scopes.last_mut().expect("the outermost scope stays").insert(name, value);
    }

    fn assign(&mut self, target: &'t Expr<'t>, value: Value<'t>) -> Result<(), Failure> {
        match target {
            Expr::Var(variable) => self.set(variable.id, value),
            Expr::List(list) => {
                let items = self.items(&value)?;
                if items.len() != list.items.len() {
                    return Err(format!("{} values for {} names", items.len(), list.items.len()));
                }
                for (target, item) in list.items.iter().zip(items) {
                    self.deeper(|this| this.assign(target, item))?;
                }
            }
            Expr::GetAttr(attribute) => match (self.expression(&attribute.expr)?, value) {
                (Value::Namespace(_), value @ Value::Namespace(_)) => {
                    return Err(format!("{} can't be put into a namespace", value.kind()));
                }
                (Value::Namespace(namespace), value) => {
                    drop(namespace.borrow_mut().insert(attribute.name.into(), value))
                }
                (other, _) => return Err(format!("an attribute of {} can't be set", other.kind())),
            },
            _ => return Err("this can't be set".to_owned()),
        }
        Ok(())
    }

    fn lookup(&self, name: &str) -> Value<'t> {
        let own = self.scopes[self.base..].iter().rev().find_map(|scope| scope.get(name));
        own.or_else(|| self.scopes[0].get(name)).cloned().unwrap_or(Value::Undefined)
    }

    fn expression(&mut self, expression: &'t Expr<'t>) -> Result<Value<'t>, Failure> {
        self.deeper(|this| this.expression_inside(expression))
    }

    fn maybe(&mut self, expression: &'t Option<Expr<'t>>) -> Result<Option<i64>, Failure> {
        let Some(expression) = expression else { return Ok(None) };
        match self.expression(expression)? {
            Value::None => Ok(None),
            value => value.as_int().map(Some),
        }
    }

    fn expression_inside(&mut self, expression: &'t Expr<'t>) -> Result<Value<'t>, Failure> {
        match expression {
            Expr::Var(variable) => Ok(self.lookup(variable.id)),
            Expr::Const(constant) => constant_value(&constant.value, &mut self.fuel),
            Expr::Slice(slice) => {
                let value = self.expression(&slice.expr)?;
                let (start, stop, step) = (&slice.start, &slice.stop, &slice.step);
                let (start, stop, step) = (self.maybe(start)?, self.maybe(stop)?, self.maybe(step)?);
                self.slice(&value, start, stop, step.unwrap_or(1))
            }
            Expr::UnaryOp(unary) => {
                let value = self.expression(&unary.expr)?;
                match (&unary.op, value) {
                    (UnaryOpKind::Not, value) => Ok(Value::Bool(!value.is_true())),
                    (UnaryOpKind::Neg, Value::Float(float)) => Ok(Value::Float(-float)),
                    (UnaryOpKind::Neg, value) => value.as_int()?.checked_neg().map(Value::Int).ok_or_else(too_large),
                }
            }
            Expr::BinOp(binary) => {
                let left = self.expression(&binary.left)?;
                match binary.op {
                    BinOpKind::ScAnd if !left.is_true() => return Ok(left),
                    BinOpKind::ScOr if left.is_true() => return Ok(left),
                    _ => {}
                }
                let right = self.expression(&binary.right)?;
                self.binary(binary.op, left, right)
            }
            Expr::Compare(compare) => {
                let mut left = self.expression(&compare.expr)?;
                for operand in &compare.ops {
                    let right = self.expression(&operand.expr)?;
                    let (op, holds) = match operand.op {
                        CompareOpKind::Eq => (BinOpKind::Eq, true),
                        CompareOpKind::Ne => (BinOpKind::Ne, true),
                        CompareOpKind::Lt => (BinOpKind::Lt, true),
                        CompareOpKind::Lte => (BinOpKind::Lte, true),
                        CompareOpKind::Gt => (BinOpKind::Gt, true),
                        CompareOpKind::Gte => (BinOpKind::Gte, true),
                        CompareOpKind::In => (BinOpKind::In, true),
                        CompareOpKind::NotIn => (BinOpKind::In, false),
                    };
                    if self.binary(op, left, right.clone())?.is_true() != holds {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::IfExpr(choice) => match (self.expression(&choice.test_expr)?.is_true(), &choice.false_expr) {
                (true, _) => self.expression(&choice.true_expr),
                (false, Some(other)) => self.expression(other),
                (false, None) => Ok(Value::Undefined),
            },
            Expr::Filter(_) => self.filter(expression, None),
            Expr::Test(test) => {
                let value = self.expression(&test.expr)?;
                let (arguments, _) = self.arguments(&test.args)?;
                self.test(test.name, &value, &arguments).map(Value::Bool)
            }
            Expr::GetAttr(attribute) => {
                let value = self.expression(&attribute.expr)?;
                self.member(&value, &Value::text(attribute.name))
            }
            Expr::GetItem(item) => {
                let value = self.expression(&item.expr)?;
                let key = self.expression(&item.subscript_expr)?;
                self.member(&value, &key)
            }
            Expr::Call(call) => self.call(&call.expr, &call.args),
            Expr::List(list) => {
                let items = list.items.iter().map(|item| self.expression(item)).collect::<Result<_, _>>()?;
                self.fuel.list(items)
            }
            Expr::Map(map) => {
                let mut items = BTreeMap::new();
                for (key, value) in map.keys.iter().zip(&map.values) {
                    let key = self.expression(key)?.as_text()?.clone();
                    items.insert(key, self.expression(value)?);
                }
                self.fuel.map(items)
            }
        }
    }

    /// A part of a map, a list or a text; nothing if it has no such part.
    pub(super) fn member(&mut self, value: &Value<'t>, key: &Value<'t>) -> Result<Value<'t>, Failure> {
        let at = |length: usize, index: i64| {
            let index = if index < 0 { index + length as i64 } else { index };
            usize::try_from(index).ok().filter(|index| *index < length)
        };
        Ok(match (value, key) {
            (Value::Map(map), Value::Text(key)) => map.inner.get(key).cloned().unwrap_or(Value::Undefined),
            (Value::Namespace(map), Value::Text(key)) => map.borrow().get(key).cloned().unwrap_or(Value::Undefined),
            (Value::List(list), Value::Int(index)) => {
                at(list.inner.len(), *index).map_or(Value::Undefined, |index| list.inner[index].clone())
            }
            (Value::Text(text), Value::Int(index)) => {
                self.fuel.pay(text.len())?;
                let found = at(text.chars().count(), *index).and_then(|index| text.chars().nth(index));
                found.map_or(Value::Undefined, |character| Value::text(character.encode_utf8(&mut [0; 4])))
            }
            (Value::Undefined, _) => return Err("what is not defined has no parts".to_owned()),
            _ => Value::Undefined,
        })
    }

    fn slice(
        &mut self,
        value: &Value<'t>,
        start: Option<i64>,
        stop: Option<i64>,
        step: i64,
    ) -> Result<Value<'t>, Failure> {
        let (items, text) = match value {
            Value::Undefined | Value::None => return Err(format!("{} has no parts", value.kind())),
            value => (self.items(value)?, matches!(value, Value::Text(_))),
        };
        let length = items.len() as i64;
        // As Python cuts: ends are clamped, and for a step backwards the defaults turn round.
        let clamp = |at: i64, low: i64, high: i64| if at < 0 { (at + length).max(low) } else { at.min(high) };
        let mut chosen = Vec::new();
        match step {
            0 => return Err("a slice's step is 0".to_owned()),
            1.. => {
                let mut at = start.map_or(0, |at| clamp(at, 0, length));
                let stop = stop.map_or(length, |at| clamp(at, 0, length));
                while at < stop {
                    chosen.push(items[at as usize].clone());
                    at = at.saturating_add(step);
                }
            }
            _ => {
                let mut at = start.map_or(length - 1, |at| clamp(at, -1, length - 1));
                let stop = stop.map_or(-1, |at| clamp(at, -1, length - 1));
                while at > stop {
                    chosen.push(items[at as usize].clone());
                    at = at.saturating_add(step);
                }
            }
        }
        match text {
            true => {
                let parts: Vec<&str> =
                    chosen.iter().filter_map(|part| part.as_text().ok().map(|text| &**text)).collect();
                self.fuel.concat(&parts)
            }
            false => self.fuel.list(chosen),
        }
    }

    fn binary(&mut self, op: BinOpKind, left: Value<'t>, right: Value<'t>) -> Result<Value<'t>, Failure> {
        let refused = || format!("{} and {} don't go together here", left.kind(), right.kind());
        Ok(match op {
            BinOpKind::ScAnd | BinOpKind::ScOr => right,
            BinOpKind::Eq => Value::Bool(self.fuel.equal(&left, &right)?),
            BinOpKind::Ne => Value::Bool(!self.fuel.equal(&left, &right)?),
            BinOpKind::In => Value::Bool(self.contains(&right, &left)?),
            BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => {
                let order = match (&left, &right) {
                    (Value::Text(a), Value::Text(b)) => {
                        self.fuel.pay(a.len().min(b.len()))?;
                        Some(a.cmp(b))
                    }
                    (a, b) => a.as_float().zip(b.as_float()).and_then(|(a, b)| a.partial_cmp(&b)),
                };
                let order = order.ok_or_else(refused)?;
                Value::Bool(match op {
                    BinOpKind::Lt => order.is_lt(),
                    BinOpKind::Lte => order.is_le(),
                    BinOpKind::Gt => order.is_gt(),
                    _ => order.is_ge(),
                })
            }
            BinOpKind::Concat => {
                let (mut a, mut b) = (String::new(), String::new());
                self.fuel.show(&left, false, &mut a)?;
                self.fuel.show(&right, false, &mut b)?;
                self.fuel.concat(&[&a, &b])?
            }
            BinOpKind::Add => match (&left, &right) {
                (Value::Text(a), Value::Text(b)) => self.fuel.concat(&[a, b])?,
                (Value::List(a), Value::List(b)) => {
                    self.fuel.pay((a.inner.len() + b.inner.len()) * ITEM_BYTES)?;
                    self.fuel.list(a.inner.iter().chain(&b.inner).cloned().collect())?
                }
                _ => arithmetic(&left, &right, i64::checked_add, |a, b| a + b).ok_or_else(refused)?,
            },
            BinOpKind::Sub => arithmetic(&left, &right, i64::checked_sub, |a, b| a - b).ok_or_else(refused)?,
            BinOpKind::Mul => match (&left, &right) {
                (Value::Text(text), Value::Int(times)) | (Value::Int(times), Value::Text(text)) => {
                    let times = usize::try_from((*times).max(0)).map_err(|_| too_large())?;
                    self.fuel.pay(text.len().checked_mul(times).ok_or_else(too_large)?)?;
                    Value::Text(text.repeat(times).into())
                }
                _ => arithmetic(&left, &right, i64::checked_mul, |a, b| a * b).ok_or_else(refused)?,
            },
            BinOpKind::Div => {
                let (a, b) = left.as_float().zip(right.as_float()).filter(|(_, b)| *b != 0.0).ok_or_else(refused)?;
                Value::Float(a / b)
            }
            BinOpKind::FloorDiv => {
                let floor = |a: i64, b: i64| a.checked_div_euclid(b);
                arithmetic(&left, &right, floor, |a, b| (a / b).floor()).ok_or_else(refused)?
            }
            BinOpKind::Rem => {
                arithmetic(&left, &right, i64::checked_rem_euclid, f64::rem_euclid).ok_or_else(refused)?
            }
            BinOpKind::Pow => {
                let power = |a: i64, b: i64| u32::try_from(b).ok().and_then(|b| a.checked_pow(b));
                arithmetic(&left, &right, power, f64::powf).ok_or_else(refused)?
            }
        })
    }

    fn contains(&mut self, whole: &Value<'t>, part: &Value<'t>) -> Result<bool, Failure> {
        match (whole, part) {
            (Value::Text(whole), Value::Text(part)) => {
                self.fuel.pay(whole.len())?;
                Ok(whole.contains(&**part))
            }
            (Value::Map(map), Value::Text(key)) => Ok(map.inner.contains_key(key)),
            (Value::Namespace(map), Value::Text(key)) => Ok(map.borrow().contains_key(key)),
            (Value::List(list), part) => {
                list.inner.iter().try_fold(false, |found, item| Ok(found || self.fuel.equal(item, part)?))
            }
            (Value::Undefined | Value::Map(_), _) => Ok(false),
            (whole, part) => Err(format!("{} can't hold {}", whole.kind(), part.kind())),
        }
    }

    fn arguments(&mut self, given: &'t [CallArg<'t>]) -> Result<Arguments<'t>, Failure> {
        let (mut by_place, mut by_name) = (Vec::new(), BTreeMap::new());
        for argument in given {
            match argument {
                CallArg::Pos(value) => by_place.push(self.expression(value)?),
                CallArg::Kwarg(name, value) => drop(by_name.insert(*name, self.expression(value)?)),
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                    return Err("arguments that are unpacked are not supported".to_owned());
                }
            }
        }
        Ok((by_place, by_name))
    }

    fn filter(&mut self, expression: &'t Expr<'t>, input: Option<Value<'t>>) -> Result<Value<'t>, Failure> {
        let Expr::Filter(filter) = expression else { return Err("a filter is needed here".to_owned()) };
        let value = match (&filter.expr, input) {
            // A block's filters are applied from the inside out.
            (Some(inner @ Expr::Filter(_)), Some(input)) => self.deeper(|this| this.filter(inner, Some(input)))?,
            (Some(inner), _) => self.expression(inner)?,
            (None, Some(input)) => input,
            (None, None) => Value::Undefined,
        };
        let arguments = self.arguments(&filter.args)?;
        filters::apply(self, filter.name, value, arguments)
    }

    pub(super) fn test(&mut self, name: &str, value: &Value<'t>, arguments: &[Value<'t>]) -> Result<bool, Failure> {
        let other = || arguments.first().ok_or_else(|| format!("the test {name} needs a value"));
        Ok(match name {
            "defined" => !matches!(value, Value::Undefined),
            "undefined" => matches!(value, Value::Undefined),
            "none" => matches!(value, Value::None),
            "string" => matches!(value, Value::Text(_)),
            "mapping" => matches!(value, Value::Map(_) | Value::Namespace(_)),
            "sequence" => matches!(value, Value::List(_) | Value::Text(_)),
            "iterable" => matches!(value, Value::List(_) | Value::Text(_) | Value::Map(_)),
            "number" => matches!(value, Value::Int(_) | Value::Float(_)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "boolean" => matches!(value, Value::Bool(_)),
            "callable" => matches!(value, Value::Macro(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "odd" => value.as_int()? % 2 != 0,
            "even" => value.as_int()? % 2 == 0,
            "eq" | "equalto" | "sameas" | "==" => self.fuel.equal(value, other()?)?,
            "ne" | "!=" => !self.fuel.equal(value, other()?)?,
            "in" => self.contains(&other()?.clone(), value)?,
            _ => return Err(format!("no test is named {name:?}")),
        })
    }

    fn call(&mut self, callee: &'t Expr<'t>, given: &'t [CallArg<'t>]) -> Result<Value<'t>, Failure> {
        let arguments = self.arguments(given)?;
        match callee {
            Expr::Var(variable) => match self.lookup(variable.id) {
                Value::Macro(definition) => self.deeper(|this| this.expand(definition, arguments)),
                _ => self.function(variable.id, arguments),
            },
            Expr::GetAttr(attribute) => {
                let value = self.expression(&attribute.expr)?;
                methods::call(self, &value, attribute.name, &arguments.0)
            }
            _ => Err("this can't be called".to_owned()),
        }
    }

    fn function(&mut self, name: &str, (by_place, by_name): Arguments<'t>) -> Result<Value<'t>, Failure> {
        match name {
            "raise_exception" => Err(by_place.first().map_or_else(
                || "the template gives no reason".to_owned(),
                |why| why.as_text().map_or_else(|e| e, |why| why.to_string()),
            )),
            "namespace" | "dict" => {
                let mut items: BTreeMap<Rc<str>, Value<'t>> = BTreeMap::new();
                if let Some(Value::Map(map)) = by_place.first() {
                    items.extend(map.inner.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
                items.extend(by_name.into_iter().map(|(name, value)| (name.into(), value)));
                let map = self.fuel.map(items)?;
                Ok(match (name, map) {
                    ("namespace", Value::Map(map)) => Value::Namespace(Rc::new(RefCell::new(map.inner.clone()))),
                    (_, map) => map,
                })
            }
            "range" => {
                let ints = by_place.iter().map(Value::as_int).collect::<Result<Vec<_>, _>>()?;
                let (start, stop, step) = match ints[..] {
                    [stop] => (0, stop, 1),
                    [start, stop] => (start, stop, 1),
                    [start, stop, step] if step != 0 => (start, stop, step),
                    _ => return Err("range takes one to three numbers, no step of 0".to_owned()),
                };
                let mut items = Vec::new();
                let mut at = start;
                while if step > 0 { at < stop } else { at > stop } {
                    if items.len() >= TEMPLATE_RANGE_MAX {
                        return Err(too_large());
                    }
                    items.push(Value::Int(at));
                    at = at.checked_add(step).ok_or_else(too_large)?;
                }
                self.fuel.list(items)
            }
            _ => Err(format!("no function is named {name:?}")),
        }
    }

    fn expand(&mut self, of: &'t Macro<'t>, (by_place, mut by_name): Arguments<'t>) -> Result<Value<'t>, Failure> {
        let (base, mut given) = (self.base, by_place.into_iter());
        let first_default = of.args.len() - of.defaults.len();
        let mut scope = BTreeMap::new();
        for (index, parameter) in of.args.iter().enumerate() {
            let Expr::Var(parameter) = parameter else { return Err("a parameter has no name".to_owned()) };
            let default = index.checked_sub(first_default).and_then(|index| of.defaults.get(index));
            let value = match (given.next().or_else(|| by_name.remove(parameter.id)), default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.expression(default)?,
                (None, None) => Value::Undefined,
            };
            scope.insert(parameter.id, value);
        }
        self.base = self.scopes.len();
        self.scopes.push(scope);
        let text = self.captured(&of.body);
        self.scopes.pop();
        self.base = base;
        text
    }
}

fn constant_value<'t>(constant: &minijinja::Value, fuel: &mut Fuel) -> Result<Value<'t>, Failure> {
    use minijinja::value::ValueKind;
    Ok(match constant.kind() {
        ValueKind::None => Value::None,
        ValueKind::Bool => Value::Bool(constant.is_true()),
        ValueKind::Number => match i64::try_from(constant.clone()) {
            Ok(int) if constant.is_integer() => Value::Int(int),
            _ => Value::Float(f64::try_from(constant.clone()).map_err(|e| e.to_string())?),
        },
        ValueKind::String => {
            let text = constant.as_str().unwrap_or_default();
            fuel.pay(text.len())?;
            Value::text(text)
        }
        _ => return Err("this constant is not supported".to_owned()),
    })
}

fn arithmetic<'t>(
    left: &Value<'_>,
    right: &Value<'_>,
    whole: impl Fn(i64, i64) -> Option<i64>,
    broken: impl Fn(f64, f64) -> f64,
) -> Option<Value<'t>> {
    match (left, right) {
        (Value::Float(_), _) | (_, Value::Float(_)) => Some(Value::Float(broken(left.as_float()?, right.as_float()?))),
        _ => whole(left.as_int().ok()?, right.as_int().ok()?).map(Value::Int),
    }
}

fn too_large() -> Failure {
    "a number or a text gets too large".to_owned()
}
