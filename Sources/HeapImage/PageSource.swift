// SPDX-License-Identifier: MIT

/// What is behind a run of pages.
package struct PageFlags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Has memory behind it.
    package static let present = PageFlags(rawValue: 1)
    /// Was written to swap; not present.
    package static let swapped = PageFlags(rawValue: 2)
    /// The kernel's one page of zeros: present, and nobody's memory.
    package static let zero = PageFlags(rawValue: 4)
    /// Mapped as part of a huge page.
    package static let huge = PageFlags(rawValue: 8)
    /// Of a file, or shared.
    package static let file = PageFlags(rawValue: 16)
    /// Nothing is known of it.
    package static let unknown = PageFlags(rawValue: 32)
}

/// Adjoining pages that are alike.
package struct PageRun: Equatable, Sendable {
    package var range: Range<UInt64>
    package var flags: PageFlags

    package init(_ range: Range<UInt64>, _ flags: PageFlags) {
        self.range = range
        self.flags = flags
    }
}

/// Where pages are: by node, or why that can't be told.
package enum PageNodes: Equatable, Sendable {
    /// For each page asked for its node, or a negative errno value: -ENOENT where no page is,
    /// -EFAULT at the page of zeros.
    case nodes([Int32])
    case refused(code: Int32)
}

/// What the kernel knows about the pages of an address space: of a live process (LivePages), or as
/// it was recorded (RecordedPages), so that machines with other pages and nodes can be tested on
/// this one.
///
/// Nothing that is asked here touches a page or makes one.
package protocol PageSource {
    /// Bytes of a page.
    var pageSize: UInt64 { get }
    /// Does it tell which present pages are the page of zeros, and which are huge?
    ///
    /// Else `zero` and `huge` are never set.
    var tellsKinds: Bool { get }

    /// Visits the runs of pages in `range` that are present, in swap or unknown, in order; what is
    /// in no run has no memory. Returns why some are unknown, if any are.
    func visit(_ range: Range<UInt64>, _ body: (PageRun) -> Void) -> String?

    /// Nodes of present pages, by their addresses.
    func nodes(of pages: [UInt64]) -> PageNodes

    /// Bytes of a page of a mapping: more than `pageSize` for one of a hugetlbfs.
    func pageSize(of mapping: Mapping) -> UInt64
}

extension PageSource {
    package func pageSize(of mapping: Mapping) -> UInt64 { pageSize }
}
