// SPDX-License-Identifier: MIT
// Swift frames: objects of a class, and an array's storage, made in methods of generic types.
import Glibc

final class Parcel {
    var words = (1, 2, 3, 4, 5, 6, 7, 8)
}

struct Shelf<Item> {
    var items: [Item] = []

    @inline(never)
    mutating func fill(_ item: Item, count: Int) {
        items = Array(repeating: item, count: count)
    }
}

@inline(never)
func makeParcels(_ count: Int) -> [Parcel] {
    (0..<count).map { _ in Parcel() }
}

var shelf = Shelf<UInt64>()
shelf.fill(7, count: 1000)
let parcels = makeParcels(50)
_ = write(1, "full\n", 5)
var byte: UInt8 = 0
_ = read(0, &byte, 1)
print(shelf.items.count, parcels.count)
