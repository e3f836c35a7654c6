//! Every random byte of a simulated process, from one seeded stream.
//!
//! Nodes draw from their `Env`, which has a seed of its own; this stream is for what has no seam: hash maps, tokio's
//! `select!`, other crates' generators. They all end in libc's `getrandom`, which is interposed here, for threads that
//! called [`seed`]; other threads get the machine's randomness. Linux alone: elsewhere only that belt is missing.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;

thread_local! {
    static STREAM: RefCell<Option<ChaCha8Rng>> = const { RefCell::new(None) };
}

/// From now on this thread draws from `seed`. Call it before the thread's first hash map: the standard library keeps
/// one pair of keys a thread.
pub fn seed(seed: u64) {
    STREAM.set(Some(ChaCha8Rng::seed_from_u64(seed)));
}

/// Fills `bytes` from this thread's stream; `false` if the thread has none.
pub fn fill(bytes: &mut [u8]) -> bool {
    STREAM.with_borrow_mut(|stream| stream.as_mut().map(|rng| rng.fill_bytes(bytes)).is_some())
}

#[cfg(target_os = "linux")]
mod hook {
    use std::{ffi::c_uint, fs::File, io::Read, ptr};

    /// Bytes drawn at a time; whoever calls wants a key or a seed.
    const CHUNK_BYTES: usize = 64;

    /// `getrandom(2)`, in front of libc's. Without a stream it reads `/dev/urandom`, as libc's users do when the
    /// system has no such call.
    #[unsafe(no_mangle)]
    #[expect(unsafe_code, reason = "it takes the place of a C function, whose buffer is a pointer")]
    extern "C" fn getrandom(buffer: *mut u8, bytes: usize, _flags: c_uint) -> isize {
        for start in (0..bytes).step_by(CHUNK_BYTES) {
            let mut chunk = [0; CHUNK_BYTES];
            let part = &mut chunk[..CHUNK_BYTES.min(bytes - start)];
            if !super::fill(part) && File::open("/dev/urandom").and_then(|mut file| file.read_exact(part)).is_err() {
                return -1;
            }
            // SAFETY: the caller hands over `bytes` writable bytes at `buffer`, and `start + part.len() <= bytes`. They
            // may be uninitialised, hence no slice of them.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), buffer.add(start), part.len()) };
        }
        bytes as isize
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::{collections::hash_map::RandomState, hash::BuildHasher};

    #[expect(clippy::disallowed_methods, reason = "a thread has hash keys of its own, which is what is tested")]
    fn hash_of_a_new_thread(seeded: Option<u64>) -> u64 {
        let hash = move || {
            seeded.into_iter().for_each(seed);
            RandomState::new().hash_one("skep")
        };
        std::thread::spawn(hash).join().expect("hashing doesn't panic")
    }

    #[test]
    fn a_seeded_threads_hash_maps_are_always_the_same() {
        assert_eq!(hash_of_a_new_thread(Some(7)), hash_of_a_new_thread(Some(7)));
        assert_ne!(hash_of_a_new_thread(Some(7)), hash_of_a_new_thread(Some(8)));
    }

    #[test]
    fn other_threads_keep_the_machines_randomness() {
        assert_ne!(hash_of_a_new_thread(None), hash_of_a_new_thread(None));
    }
}
