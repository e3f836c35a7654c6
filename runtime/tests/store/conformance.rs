//! What every back end does alike.

use crate::place::{LEFT, Place, RIGHT, count, data_file, look, pair, value};
use futures::future::join_all;
use skep_runtime::store::{
    BATCH_BYTES_MAX, BATCH_OPS_MAX, Batch, Error, KEY_BYTES_MAX, Kind, Page, Span, Table, VALUE_BYTES_MAX,
};
use std::collections::BTreeMap;

/// Each behaviour on each back end.
macro_rules! on_every_store {
    ($($behaviour:ident),* $(,)?) => {
        on_every_store!(@ redb, $($behaviour),*);
        on_every_store!(@ sled, $($behaviour),*);
        on_every_store!(@ memory, $($behaviour),*);
    };
    (@ $store:ident, $($behaviour:ident),*) => {
        mod $store {
            use crate::place::Place;
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(Place::$store()).await;
            })*
        }
    };
}

on_every_store!(
    a_batch_over_two_tables_is_there_wholly,
    what_was_acknowledged_is_there_after_a_restart,
    scans_go_in_key_order_within_their_bounds,
    deletes_and_overwrites_take_the_order_of_the_batch,
    many_writers_are_all_acknowledged,
    what_is_too_large_is_refused_and_changes_nothing,
    the_largest_batch_comes_back,
    a_record_of_another_layout_or_type_is_refused,
    a_second_opener_is_refused,
    a_closed_store_says_so_and_frees_its_place,
);

async fn a_batch_over_two_tables_is_there_wholly(place: Place) {
    let store = place.open();
    assert_eq!(store.get(LEFT, &1), Ok(None));
    store.commit(pair(1)).await.unwrap();
    assert_eq!(store.get(LEFT, &1), Ok(Some(value(1))));
    assert_eq!(store.get(RIGHT, &1), Ok(Some(value(!1))));
    assert_eq!(store.commit(Batch::new()).await, Ok(()));
}

async fn what_was_acknowledged_is_there_after_a_restart(place: Place) {
    for start in [0, 50, 100] {
        let store = place.open();
        assert_eq!(look(&store, start).whole.len() as u64, start);
        for n in start..start + 50 {
            store.commit(pair(n)).await.unwrap();
        }
    }
    let store = place.open();
    assert_eq!(look(&store, 150).whole.len(), 150);
    assert_eq!(count(&store), 150);
}

async fn scans_go_in_key_order_within_their_bounds(place: Place) {
    const NAMED: Table<(String, i64), u32> = Table::new("named");
    let store = place.open();
    let mut model = BTreeMap::new();
    let mut batch = Batch::new();
    for (at, name) in ["", "a", "a\0", "a\0b", "aa", "b", "\u{ff}"].into_iter().enumerate() {
        for number in [i64::MIN, -1, 0, 1, i64::MAX] {
            let key = (name.to_owned(), number);
            batch.put(NAMED, &key, &(at as u32)).unwrap();
            model.insert(key, at as u32);
        }
    }
    // A neighbour whose name continues the table's must not show up.
    batch.put(Table::<u64, u32>::new("namedother"), &1, &1).unwrap();
    store.commit(batch).await.unwrap();
    let all: Vec<_> = model.clone().into_iter().collect();
    assert_eq!(store.scan(NAMED, &Span::all(), 1_000), Ok(Page { rows: all.clone(), rest: None }));

    let (low, high) = (all[7].0.clone(), all[20].0.clone());
    let expect = |rows: &[((String, i64), u32)]| Ok(Page { rows: rows.to_vec(), rest: None });
    assert_eq!(store.scan(NAMED, &Span::of(&(low.clone()..high.clone())), 100), expect(&all[7..20]));
    assert_eq!(store.scan(NAMED, &Span::of(&(low.clone()..=high.clone())), 100), expect(&all[7..=20]));
    assert_eq!(store.scan(NAMED, &Span::of(&(high.clone()..low.clone())), 100), expect(&[]));
    assert_eq!(store.scan(NAMED, &Span::of(&(..low.clone())), 100), expect(&all[..7]));
    assert_eq!(store.scan(NAMED, &Span::under(&"a\0".to_owned()), 100), expect(&all[10..15]));

    // In pages of four, from both kinds of start.
    let (mut span, mut seen) = (Some(Span::of(&(low..))), Vec::new());
    while let Some(next) = span {
        let page = store.scan(NAMED, &next, 4).unwrap();
        assert!(page.rows.len() <= 4);
        seen.extend(page.rows);
        span = page.rest;
    }
    assert_eq!(seen, all[7..]);
    assert_eq!(store.scan(Table::<u64, u32>::new("never written"), &Span::all(), 9).unwrap().rows, []);
}

async fn deletes_and_overwrites_take_the_order_of_the_batch(place: Place) {
    let store = place.open();
    store.commit(pair(1)).await.unwrap();
    let mut batch = Batch::new();
    batch.put(LEFT, &1, &b"second".to_vec()).unwrap();
    batch.delete(RIGHT, &1).unwrap();
    batch.put(LEFT, &2, &b"never seen".to_vec()).unwrap();
    batch.delete(LEFT, &2).unwrap();
    batch.delete(LEFT, &3).unwrap();
    batch.put(LEFT, &3, &b"after its deletion".to_vec()).unwrap();
    store.commit(batch).await.unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(store.get(LEFT, &1), Ok(Some(b"second".to_vec())));
    assert_eq!(store.get(RIGHT, &1), Ok(None));
    assert_eq!(store.get(LEFT, &2), Ok(None));
    assert_eq!(store.get(LEFT, &3), Ok(Some(b"after its deletion".to_vec())));
}

async fn many_writers_are_all_acknowledged(place: Place) {
    let store = place.open();
    let writers = (0..64).map(|writer| {
        let store = store.clone();
        async move {
            for n in 0..8 {
                store.commit(pair(writer * 8 + n)).await.unwrap();
                // A writer sees its own write at once.
                assert_eq!(store.get(LEFT, &(writer * 8 + n)), Ok(Some(value(writer * 8 + n))));
            }
        }
    });
    join_all(writers).await;
    drop(store);
    assert_eq!(look(&place.open(), 512).whole.len(), 512);
}

async fn what_is_too_large_is_refused_and_changes_nothing(place: Place) {
    const BY_NAME: Table<String, Vec<u8>> = Table::new("by name");
    let store = place.open();
    let mut batch = pair(1);
    let before = batch.clone();
    let too_large = |result| matches!(result, Err(Error::TooLarge { .. } | Error::Undecodable { .. }));
    assert!(too_large(batch.put(BY_NAME, &"k".repeat(KEY_BYTES_MAX), &vec![])));
    assert!(too_large(batch.put(LEFT, &2, &vec![0; VALUE_BYTES_MAX])));
    assert_eq!(batch, before);
    let mut many = Batch::new();
    for n in 0..BATCH_OPS_MAX as u64 {
        many.delete(LEFT, &n).unwrap();
    }
    assert!(too_large(many.delete(LEFT, &0)));
    store.commit(batch).await.unwrap();
    assert_eq!(look(&store, 3).whole, [1]);
}

async fn the_largest_batch_comes_back(place: Place) {
    const VALUE_BYTES: usize = 2 << 20;
    const TEXTS: Table<u64, String> = Table::new("texts");
    let text = |n: u64| n.to_string().repeat(VALUE_BYTES).split_off(VALUE_BYTES * (n.to_string().len() - 1));
    let store = place.open();
    let mut batch = Batch::new();
    let mut written = 0;
    let refused = loop {
        match batch.put(TEXTS, &written, &text(written)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::TooLarge { limit: BATCH_BYTES_MAX, .. }), "{refused}");
    assert_eq!(written, 31);
    store.commit(batch).await.unwrap();
    for n in 0..written {
        assert!(store.get(TEXTS, &n).unwrap().is_some_and(|found| found == text(n)), "{n}");
    }
}

async fn a_record_of_another_layout_or_type_is_refused(place: Place) {
    let store = place.open();
    let mut batch = Batch::new();
    batch.put(LEFT.layout(2), &1, &b"newer".to_vec()).unwrap();
    batch.put(Table::<u64, (u64, u8)>::new("left"), &2, &(u64::MAX, 1)).unwrap();
    store.commit(batch).await.unwrap();
    assert_eq!(store.get(LEFT, &1), Err(Error::Layout { table: "left".to_owned(), found: 2, expected: 1 }));
    assert!(matches!(store.get(LEFT, &2), Err(Error::Undecodable { .. })));
    assert_eq!(store.get(LEFT.layout(2), &1), Ok(Some(b"newer".to_vec())));
}

async fn a_second_opener_is_refused(place: Place) {
    let store = place.open();
    assert!(matches!(place.try_open(), Err(Error::Locked { .. })));
    store.commit(pair(1)).await.unwrap();
    drop(store);
    assert_eq!(look(&place.open(), 2).whole, [1]);
}

async fn a_closed_store_says_so_and_frees_its_place(place: Place) {
    let store = place.open();
    let clone = store.clone();
    store.commit(pair(0)).await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(clone.commit(pair(1)).await, Err(Error::Closed));
    assert_eq!(clone.get(LEFT, &0), Err(Error::Closed));
    let again = place.open();
    assert_eq!(look(&again, 2).whole, [0]);
    drop(clone);
    drop(store);
    assert_eq!(look(&again, 2).whole, [0]);
}

#[tokio::test]
async fn a_record_altered_behind_the_engines_back_is_named() {
    for (kind, place) in [(Kind::Redb, Place::redb()), (Kind::Sled, Place::sled())] {
        let store = place.open();
        store.commit(pair(0)).await.unwrap();
        store.commit(pair(1)).await.unwrap();
        drop(store);
        let Place::Files(_, dir) = &place else { unreachable!() };
        alter(kind, dir.path());
        let store = place.open();
        let corrupt = Error::Corrupt { table: "left".to_owned(), key: 1_u64.to_be_bytes().to_vec() };
        assert_eq!(store.get(LEFT, &1), Err(corrupt.clone()));
        assert_eq!(store.scan(LEFT, &Span::all(), 9), Err(corrupt.clone()));
        assert_eq!(store.all(LEFT), Ok(vec![(0, value(0))]), "what is beside it is read nevertheless");
        assert_eq!(store.export().await, Err(corrupt), "a damaged record never replaces a good export");
        assert_eq!(store.get(LEFT, &0), Ok(Some(value(0))));
        let mut batch = Batch::new();
        batch.delete(LEFT, &1).unwrap();
        store.commit(batch).await.unwrap();
        assert_eq!(store.export().await.map(|exported| exported.records), Ok(3));
    }
}

/// Changes a byte of the left record 1 with the engine's own means, so that its checksums are in order.
fn alter(kind: Kind, dir: &std::path::Path) {
    use ::redb::ReadableTable;
    let key = 1_u64.to_be_bytes();
    let change = |mut bytes: Vec<u8>| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    if kind == Kind::Redb {
        let definition = ::redb::TableDefinition::<&[u8], &[u8]>::new("left");
        let engine = ::redb::Database::open(data_file(kind, dir)).unwrap();
        let transaction = engine.begin_write().unwrap();
        {
            let mut table = transaction.open_table(definition).unwrap();
            let changed = change(table.get(key.as_slice()).unwrap().unwrap().value().to_vec());
            table.insert(key.as_slice(), changed.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    } else {
        let engine = ::sled::open(dir.join("sled.store")).unwrap();
        let full_key = [b"\x04left".as_slice(), &key].concat();
        let changed = change(engine.get(&full_key).unwrap().unwrap().to_vec());
        engine.insert(full_key, changed).unwrap();
        engine.flush().unwrap();
    }
}
