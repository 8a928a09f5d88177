//! Feeds whatever reads bytes of others with what mutation makes of real ones.
//!
//! A target tells what became of its input, and an input of a new fate joins those that are mutated: that leads into the
//! depth of a format as far as fates differ, with no instrumented build. `COLDFRAME_FUZZ_S` is how many seconds each target
//! has (half of one by default), `COLDFRAME_FUZZ_SEED` where its chance begins; `make fuzz` sets both.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// The longest input, in bytes; seeds may be longer.
const LONGEST: usize = 1 << 16;
/// The most inputs that are kept beside the seeds.
const KEPT: usize = 2000;
/// The longest time for one input, wherever the machine has its mind.
const SLOWEST: Duration = Duration::from_secs(5);

/// Runs `target` on every seed and then on mutated ones. It panics where a promise is broken; the input is then made smaller
/// for as long as it still does, and printed.
pub fn fuzz<T: Hash>(seeds: &[Vec<u8>], target: impl Fn(&[u8]) -> T) {
    let variable = |name: &str| std::env::var(name).ok();
    let seconds = variable("COLDFRAME_FUZZ_S").map_or(0.5, |text| text.parse().expect("seconds"));
    let seed = variable("COLDFRAME_FUZZ_SEED").map_or(1, |text| text.parse().expect("a whole number"));
    let mut chance = Chance::new(seed);
    let (mut pool, mut fates) = (seeds.to_vec(), HashSet::new());
    let (began, mut runs) = (Instant::now(), 0_u64);
    let limit = Duration::from_secs_f64(seconds);
    while runs < pool.len() as u64 || began.elapsed() < limit {
        let input = match pool.get(runs as usize).filter(|_| runs < seeds.len() as u64) {
            Some(seed) => seed.clone(),
            None => chance.mutated(&pool),
        };
        runs += 1;
        let now = Instant::now();
        let Ok(fate) = catch_unwind(AssertUnwindSafe(|| target(&input))) else {
            report(&smaller(input, &target), seed, &target)
        };
        assert!(now.elapsed() < SLOWEST, "{:?} for {}", now.elapsed(), input.escape_ascii());
        let mut hasher = DefaultHasher::new();
        fate.hash(&mut hasher);
        if fates.insert(hasher.finish()) && pool.len() < seeds.len() + KEPT {
            pool.push(input);
        }
    }
    println!("{runs} inputs, {} fates, seed {seed}", fates.len());
}

fn report<T>(input: &[u8], seed: u64, target: impl Fn(&[u8]) -> T) -> ! {
    eprintln!("seed {seed} broke it with these {} bytes: b\"{}\"", input.len(), input.escape_ascii());
    target(input);
    panic!("it broke, but not twice")
}

/// The input without what it does not need in order to break `target`.
fn smaller<T>(mut input: Vec<u8>, target: impl Fn(&[u8]) -> T) -> Vec<u8> {
    let breaks = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| target(input))).is_err();
    if !breaks(&input) {
        return input;
    }
    let mut piece = input.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..input.len().min(at + piece));
            if breaks(&shorter) { input = shorter } else { at += piece }
        }
        piece /= 2;
    }
    input
}

/// Chance that can be had again (`SplitMix64`).
pub struct Chance(u64);

impl Chance {
    /// Chance that begins here.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((number ^ (number >> 31)) % end.max(1) as u64) as usize
    }

    fn mutated(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = pool.get(self.below(pool.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            self.mutate(&mut input, pool);
        }
        input.truncate(LONGEST.max(pool.iter().map(Vec::len).max().unwrap_or(0)));
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        /// Where lengths and counts turn over.
        const EDGES: [u64; 12] =
            [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
        let at = self.below(input.len() + 1);
        let end = at + self.below((input.len() - at).min(64) + 1);
        match self.below(10) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.below(256) as u8,
            2 if at < input.len() => input[at] = input[at].wrapping_add(self.below(9) as u8).wrapping_sub(4),
            3 => {
                let width = 1 << self.below(4);
                let edge = EDGES[self.below(EDGES.len())].to_le_bytes();
                for (byte, edge) in input[at..].iter_mut().zip(&edge[..width]) {
                    *byte = *edge;
                }
            }
            4 => drop(input.drain(at..end)),
            5 => input.truncate(at),
            6 => {
                let piece = input[at..end].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            7 => {
                let piece: Vec<u8> = (0..self.below(8)).map(|_| self.below(256) as u8).collect();
                input.splice(at..at, piece);
            }
            8 => {
                let other = &pool[self.below(pool.len())];
                let from = self.below(other.len() + 1);
                let to = from + self.below((other.len() - from).min(256) + 1);
                input.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                // A digit becomes another number, for formats that are text.
                if let Some(digit) = input[at..].iter().position(u8::is_ascii_digit) {
                    let edge = EDGES[self.below(EDGES.len())].to_string();
                    input.splice(at + digit..=at + digit, edge.into_bytes());
                }
            }
        }
    }
}
