// SPDX-License-Identifier: MIT
// Rust frames: a method of a generic type, and what the standard library allocates.
use std::collections::HashMap;
use std::io::{Read, Write};

struct Shelf<T> {
    items: Vec<T>,
}

impl<T: Clone> Shelf<T> {
    #[inline(never)]
    fn fill(&mut self, item: T, count: usize) {
        self.items = Vec::with_capacity(count);
        self.items.push(item);
    }
}

#[inline(never)]
fn make_box() -> Box<[u8; 777]> {
    Box::new(std::hint::black_box([1; 777]))
}

#[inline(never)]
fn make_map() -> HashMap<u64, u64> {
    (0..100).map(|each| (each, each)).collect()
}

fn main() {
    let mut shelf = Shelf { items: Vec::new() };
    shelf.fill(7u64, 1000);
    let boxes: Vec<_> = (0..9).map(|_| make_box()).collect();
    let map = make_map();
    let mut out = std::io::stdout();
    out.write_all(b"full\n").unwrap();
    out.flush().unwrap();
    let mut byte = [0; 1];
    let _ = std::io::stdin().read(&mut byte);
    std::hint::black_box((shelf.items, boxes, map));
}
