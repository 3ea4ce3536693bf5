// SPDX-License-Identifier: MIT
import Glibc

/// Pages as a kernel once told of them: what other machines, with other pages, nodes or rights,
/// would say.
package struct RecordedPages: PageSource, Sendable {
    package var pageSize: UInt64 = 4096
    package var tellsKinds = true
    /// In order, disjoint.
    package var runs: [PageRun] = []
    /// Node of each run of `runs`; 0 where there is none.
    package var runNodes: [Int32] = []
    /// Why nodes are not told; 0: they are.
    package var refusal: Int32 = 0
    package var unknownReason: String?

    package init(pageSize: UInt64 = 4096) {
        self.pageSize = pageSize
    }

    /// `count` pages from `start`, behind all there are.
    package mutating func add(
        _ start: UInt64, pages count: UInt64, _ flags: PageFlags, node: Int32 = 0
    ) {
        runs.append(PageRun(start..<(start + count * pageSize), flags))
        runNodes.append(node)
    }

    package func visit(_ range: Range<UInt64>, _ body: (PageRun) -> Void) -> String? {
        for run in runs where run.range.overlaps(range) {
            body(PageRun(run.range.clamped(to: range), run.flags))
        }
        return unknownReason
    }

    package func nodes(of pages: [UInt64]) -> PageNodes {
        guard refusal == 0 else { return .refused(code: refusal) }
        return .nodes(
            pages.map { page in
                guard let index = runs.firstIndex(where: { $0.range.contains(page) }),
                    runs[index].flags.contains(.present)
                else { return -ENOENT }
                return runs[index].flags.contains(.zero) ? -EFAULT : runNodes[index]
            })
    }
}
