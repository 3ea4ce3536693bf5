// SPDX-License-Identifier: MIT
import Glibc

/// What strerror(3) says of an errno value.
package func message(_ code: Int32) -> String {
    strerror(code).map { String(cString: $0) } ?? "error \(code)"
}

/// An address as people read it.
package func hex(_ value: UInt64) -> String {
    "0x" + String(value, radix: 16)
}

extension UInt64 {
    /// The difference, or 0 where a damaged file would make it negative.
    package func minus(_ other: UInt64) -> UInt64 {
        self > other ? self - other : 0
    }

    /// The sum, or the largest number where a damaged file would overflow it.
    package func plus(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    /// The product, or the largest number where a damaged file would overflow it.
    package func times(_ other: UInt64) -> UInt64 {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}
