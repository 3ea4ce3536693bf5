// SPDX-License-Identifier: MIT
import HeapImage

/// Which numbers of a row the table shows.
package enum TraceColumns: String, CaseIterable, Sendable {
    /// What lives.
    case live
    /// What was ever asked for and given back, and the call site as module+offset.
    case cumulative
    /// How long the freed lived, and how many of them for a moment only.
    case lifetimes
    /// What live slots take beyond what was asked for, and what they keep from being given back.
    case waste

    var header: [String] {
        switch self {
        case .live: ["Bytes", "Usable", "Count"]
        case .cumulative: ["Bytes", "Alloc", "Free", "Live"]
        case .lifetimes: ["Bytes", "Alloc", "Free", "Lifetime", "Temporary", "Share"]
        case .waste: ["Bytes", "Usable", "Waste", "Share", "Pinned", "Count"]
        }
    }

    /// What stands behind the numbers.
    var lastHeader: String {
        switch self {
        case .live: "Sample"
        case .cumulative: "Module+offset"
        case .lifetimes, .waste: "Traceback"
        }
    }

    func cells(_ row: TraceReport.Row) -> [TraceCell] {
        let counts = row.counts
        func number(_ value: UInt64) -> TraceCell {
            row.estimate == nil ? .number(value) : .estimate(value)
        }
        switch self {
        case .live:
            return [number(counts.liveBytes), number(counts.liveUsable), number(counts.live)]
        case .cumulative:
            return [
                number(counts.liveBytes), number(counts.allocs), number(counts.frees),
                number(counts.live),
            ]
        case .lifetimes:
            return [
                number(counts.liveBytes), number(counts.allocs), number(counts.frees),
                .text(counts.meanLifetimeNanoseconds.map(Layout.seconds) ?? "-"),
                number(counts.temporary), .share(counts.temporary, of: counts.allocs),
            ]
        case .waste:
            return [
                number(counts.liveBytes), number(counts.liveUsable), number(counts.waste),
                .share(counts.waste, of: counts.liveUsable),
                row.pinned.map { .number($0) } ?? .text("-"), number(counts.live),
            ]
        }
    }
}

/// A number in the table; an estimate has a `~` before it.
enum TraceCell: Equatable {
    case number(UInt64)
    case estimate(UInt64)
    case text(String)

    static func share(_ part: UInt64, of whole: UInt64) -> TraceCell {
        // Rounded, but only nothing is 0 % and only everything 100 %.
        guard whole > 0, part <= whole else { return .text("-") }
        let rounded = UInt64((Double(part) * 100 / Double(whole)).rounded())
        let percent = part == 0 || part == whole ? rounded : min(max(rounded, 1), 99)
        return .text("\(percent)%")
    }

    var width: Int {
        switch self {
        case .number(let number): Output.digits(number)
        case .estimate(let number): Output.digits(number) + 1
        case .text(let text): text.utf8.count
        }
    }

    func write(to output: inout Output, width: Int) {
        switch self {
        case .number(let number): output.write(number, width: width)
        case .estimate(let number):
            output.write(String(repeating: " ", count: max(0, width - self.width)) + "~")
            output.write(number, width: 0)
        case .text(let text): output.write(Layout.right(text, width))
        }
    }
}
