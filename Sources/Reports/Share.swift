// SPDX-License-Identifier: MIT
import HeapImage

/// A part of a whole, as reports show it.
package struct Share: Equatable, Sendable {
    package var part: UInt64
    package var whole: UInt64

    package init(_ part: UInt64, of whole: UInt64) {
        self.part = part
        self.whole = whole
    }

    /// Thousandths, rounded; nil of nothing.
    package var permille: UInt64? {
        whole == 0 ? nil : (part.times(1000).plus(whole / 2)) / whole
    }

    /// "12.3", "-" of nothing.
    var percent: String {
        permille.map { "\($0 / 10).\($0 % 10)" } ?? "-"
    }
}

extension JSONWriter {
    /// A share as a number with one decimal, in percent; null of nothing.
    package mutating func field(_ key: String, percent share: Share) {
        field(key, decimal: share.permille)
    }
}
