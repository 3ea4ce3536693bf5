// SPDX-License-Identifier: MIT
import CKernel
import Glibc

/// The pages of a process that lives, stopped or not.
///
/// The first of these that the kernel has and allows:
///   1. the PAGEMAP_SCAN ioctl (Linux 6.7): runs of pages, with zero and huge ones told apart;
///   2. /proc/PID/pagemap: a word a page; zero and huge ones only with /proc/kpageflags (root);
///   3. move_pages(2), asked about every page;
///   4. nothing: all pages are unknown, and it is said why.
/// None holds the process' address space for more than `limit` pages at a time. /proc/PID/smaps is
/// not among them: it holds it for a whole mapping, milliseconds for each gigabyte.
package final class LivePages: PageSource {
    package let pid: Int32
    package let pageSize: UInt64
    private let pagemap: Descriptor?
    private let maps: Descriptor?
    private let denial: String?
    private let flags: FrameFlags?
    private var way: Way

    package enum Way: Sendable { case scan, pagemap, nodes, none }

    /// `first` leaves out ways: for tests of the others.
    package init(pid: Int32, first: Way = .scan) {
        self.pid = pid
        pageSize = UInt64(max(4096, sysconf(Int32(_SC_PAGESIZE))))
        let path = "/proc/\(pid)/pagemap"
        pagemap = try? Descriptor(opening: path, following: true)
        maps = try? Descriptor(opening: "/proc/\(pid)/maps", following: true)
        denial = pagemap == nil ? "\(LiveProcess.denial(pid: pid))" : nil
        way = first
        flags = FrameFlags()
        if way == .scan, !canScan { way = .pagemap }
        if way == .pagemap, pagemap == nil { way = .nodes }
        if way == .nodes, case .refused = nodes(of: [pageSize]) { way = .none }
    }

    package var tellsKinds: Bool {
        switch way {
        case .scan: true
        case .pagemap: flags != nil
        case .nodes, .none: false
        }
    }

    private var canScan: Bool {
        guard let pagemap else { return false }
        var run = mc_page_run()
        var end: UInt64 = 0
        return mc_scan_pages(pagemap.number, 0, pageSize, 1, &run, 1, &end) >= 0
    }

    /// Pages for which the address space is held: 64 MiB.
    private static let limit: UInt64 = 1 << 14

    package func visit(_ range: Range<UInt64>, _ body: (PageRun) -> Void) -> String? {
        switch way {
        case .scan: return scan(range, body)
        case .pagemap: return read(range, body)
        case .nodes: return ask(range, body)
        case .none:
            body(PageRun(range, .unknown))
            return denial ?? "the kernel does not tell"
        }
    }

    // MARK: PAGEMAP_SCAN

    private func scan(_ range: Range<UInt64>, _ body: (PageRun) -> Void) -> String? {
        guard let pagemap else { return denial }
        var runs = [mc_page_run](repeating: mc_page_run(), count: 512)
        var position = range.lowerBound
        // Empty address space is passed in steps that double; where memory is, 64 MiB at a time.
        let least = Self.limit * pageSize
        var step = least
        while position < range.upperBound {
            let end = min(range.upperBound, position.plus(step))
            var next = position
            let found = mc_scan_pages(
                pagemap.number, position, end, Self.limit, &runs, runs.count, &next)
            guard found >= 0, next > position else {
                body(PageRun(position..<range.upperBound, .unknown))
                return found < 0 && errno != ESRCH
                    ? "pagemap: \(message(errno))" : "the process ended meanwhile"
            }
            for run in runs.prefix(found) where run.start < run.end {
                body(PageRun(run.start..<run.end, PageFlags(scanned: run.categories)))
            }
            step = found == 0 ? step.times(2) : least
            position = next
        }
        return nil
    }

    // MARK: /proc/PID/pagemap

    private func read(_ range: Range<UInt64>, _ body: (PageRun) -> Void) -> String? {
        guard let pagemap else { return denial }
        var entries = [UInt64](
            repeating: 0,
            count: Int(min(Self.limit, (range.upperBound - range.lowerBound) / pageSize)))
        var position = range.lowerBound
        while position < range.upperBound {
            let wanted = min(UInt64(entries.count), (range.upperBound - position) / pageSize)
            var got = 0
            try? withBytes(of: &entries) { (buffer) throws(HeapImageError) in
                let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(Int(wanted) * 8)])
                got = try pagemap.read(at: position / pageSize * 8, into: part) / 8
            }
            guard got > 0 else {
                body(PageRun(position..<range.upperBound, .unknown))
                return "the process gave up this memory meanwhile"
            }
            var runs = RunBuilder(pageSize: pageSize)
            for entry in entries.prefix(got) {
                var flags = PageFlags(entry: entry)
                // Without the right to see it, the frame's number is 0.
                if flags.contains(.present), let frames = self.flags {
                    let kinds = frames.kinds(ofFrame: entry & (1 << 55 - 1))
                    // Of files, large frames are common that are mapped page by page.
                    flags.formUnion(flags.contains(.file) ? kinds.subtracting(.huge) : kinds)
                }
                runs.add(position, flags, body)
                position += pageSize
            }
            runs.finish(body)
        }
        return nil
    }

    // MARK: move_pages

    private func ask(_ range: Range<UInt64>, _ body: (PageRun) -> Void) -> String? {
        var position = range.lowerBound
        while position < range.upperBound {
            let count = min(Self.limit, (range.upperBound - position) / pageSize)
            let pages = (0..<count).map { position + $0 * pageSize }
            guard case .nodes(let nodes) = nodes(of: pages), nodes.count == pages.count else {
                body(PageRun(position..<range.upperBound, .unknown))
                return "move_pages: \(message(errno))"
            }
            var runs = RunBuilder(pageSize: pageSize)
            for (page, node) in zip(pages, nodes) {
                runs.add(page, node >= 0 ? .present : [], body)
            }
            runs.finish(body)
            position += count * pageSize
        }
        return nil
    }

    /// move_pages(2) moves nothing without target nodes.
    package func nodes(of pages: [UInt64]) -> PageNodes {
        var nodes = [Int32](repeating: -ENOENT, count: pages.count)
        guard mc_query_nodes(pid, pages.count, pages, &nodes) < 0 else { return .nodes(nodes) }
        // A kernel without NUMA has one node, number 0, and not this call.
        let code = errno
        return code == ENOSYS && pagemap != nil
            ? .nodes(pages.map { _ in 0 }) : .refused(code: code)
    }
}

extension LivePages {
    /// Asked of the kernel (Linux 6.11); else those of hugetlbfs without a name are known by it.
    package func pageSize(of mapping: Mapping) -> UInt64 {
        if let maps {
            let size = mc_mapping_page_size(maps.number, mapping.range.lowerBound)
            if size > 0 { return UInt64(size) }
        }
        return mapping.isHugetlb ? 2 << 20 : pageSize
    }
}

/// Joins pages that are alike.
private struct RunBuilder {
    let pageSize: UInt64
    private var run = PageRun(0..<0, [])

    init(pageSize: UInt64) {
        self.pageSize = pageSize
    }

    mutating func add(_ page: UInt64, _ flags: PageFlags, _ body: (PageRun) -> Void) {
        if flags == run.flags, page == run.range.upperBound {
            run.range = run.range.lowerBound..<(page + pageSize)
            return
        }
        finish(body)
        run = PageRun(page..<(page + pageSize), flags)
    }

    mutating func finish(_ body: (PageRun) -> Void) {
        if !run.flags.isEmpty, !run.range.isEmpty { body(run) }
        run = PageRun(0..<0, [])
    }
}

extension PageFlags {
    fileprivate init(scanned categories: UInt64) {
        self = []
        if categories & UInt64(MC_PAGE_PRESENT) != 0 { insert(.present) }
        if categories & UInt64(MC_PAGE_SWAPPED) != 0 { insert(.swapped) }
        if categories & UInt64(MC_PAGE_ZERO) != 0 { insert(.zero) }
        if categories & UInt64(MC_PAGE_HUGE) != 0 { insert(.huge) }
        if categories & UInt64(MC_PAGE_FILE) != 0 { insert(.file) }
    }

    /// A word of /proc/PID/pagemap.
    fileprivate init(entry: UInt64) {
        self = []
        if entry >> 63 != 0 { insert(.present) }
        if entry >> 62 & 1 != 0 { insert(.swapped) }
        if entry >> 61 & 1 != 0 { insert(.file) }
    }
}

/// /proc/kpageflags: what the kernel says of page frames, to root.
///
/// Frames of neighbouring pages are often neighbours too: they are read 512 at a time.
private final class FrameFlags {
    private let file: Descriptor
    private var first: UInt64 = .max
    private var words = [UInt64](repeating: 0, count: 512)

    init?() {
        guard geteuid() == 0, let file = try? Descriptor(opening: "/proc/kpageflags") else {
            return nil
        }
        self.file = file
    }

    func kinds(ofFrame frame: UInt64) -> PageFlags {
        let start = frame & ~511
        if start != first {
            first = start
            for index in words.indices { words[index] = 0 }
            try? withBytes(of: &words) { (buffer) throws(HeapImageError) in
                _ = try file.read(at: start * 8, into: buffer)
            }
        }
        let word = words[Int(frame & 511)]
        // KPF_ZERO_PAGE; KPF_HUGE or KPF_THP
        var kinds: PageFlags = []
        if word >> 24 & 1 != 0 { kinds.insert(.zero) }
        if word >> 17 & 1 != 0 || word >> 22 & 1 != 0 { kinds.insert(.huge) }
        return kinds
    }
}
