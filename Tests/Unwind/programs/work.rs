// SPDX-License-Identifier: MIT
// Rust, std only: collections, formatting, closures, threads, panics that are caught.
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

fn recurse(depth: u32, words: &mut Vec<String>) -> usize {
    words.push(format!("{:08x}-{}", depth.wrapping_mul(2654435761), depth));
    if depth == 0 {
        return words.iter().map(|w| w.len()).sum();
    }
    let boxed: Box<dyn FnOnce(&mut Vec<String>) -> usize> =
        Box::new(move |w| recurse(depth - 1, w));
    boxed(words)
}

fn work(i: u32) -> usize {
    let mut words = Vec::new();
    let mut total = recurse(i % 40, &mut words);
    words.sort_by(|a, b| b.cmp(a));
    let mut counts: HashMap<String, u32> = HashMap::new();
    for word in &words {
        *counts.entry(word.chars().rev().collect()).or_default() += 1;
    }
    let tree: BTreeMap<_, _> = counts.into_iter().collect();
    total += tree.len();
    let caught = std::panic::catch_unwind(|| {
        let kept = vec![i; 10];
        if i % 3 == 0 {
            panic!("number {}", kept[0]);
        }
        kept.len()
    });
    total + caught.unwrap_or(0)
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let seconds: f64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(2.0);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let run = move || {
        let mut i = 0u32;
        let mut total = 0;
        while Instant::now() < end {
            total += work(i);
            i += 1;
        }
        total
    };
    let thread = std::thread::spawn(run);
    let total = run() + thread.join().unwrap();
    assert!(total > 0);
}
