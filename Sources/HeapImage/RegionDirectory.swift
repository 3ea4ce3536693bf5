// SPDX-License-Identifier: MIT
import Glibc

/// A region and the process it tells of.
package struct RegionEntry: Sendable {
    package enum State: Equatable, Sendable {
        /// The number the process has here, in memctl's own pid namespace.
        case alive(pid: Int32)
        /// Killed, crashed, or left by _exit(2): it did not take its region along.
        case dead
        /// Ended as usual, and was asked to keep its region.
        case exited
    }

    package var file: RegionFile
    package var header: RegionHeader
    package var state: State
    /// Where the process' files are: "" or "/proc/PID/root".
    package var root: String
    /// Of an earlier process with the same pid: its number, else 0.
    package var generation: Int
    /// The process whose region this really is; nil: its own.
    ///
    /// See RegionDirectory.sharers(of:).
    package var owner: Int32?

    package var isShared: Bool { owner != nil }

    package var livePid: Int32? {
        if case .alive(let pid) = state { return pid }
        return nil
    }

    /// Makes it that of a living process.
    ///
    /// Until it is traced, a region has the path that the program was started by, of a link or a script perhaps; of a
    /// living one the kernel knows more.
    mutating func live(as pid: Int32, root: String) {
        state = .alive(pid: pid)
        self.root = root
        if header.tracedSinceNanoseconds == 0, let program = Descriptor.link(at: "/proc/\(pid)/exe")
        {
            header.executable = program.withoutDeleted
        }
    }

    /// Left by a process that ended as usual but could not remove it: nobody wants it any more.
    package var isLeftover: Bool { livePid == nil && header.ending == .removable }

    /// The number to name the process by: here if it lives, else as it knew itself.
    package var pid: Int32 { livePid ?? header.pid }

    /// What to give to `-p`.
    package var label: String { generation == 0 ? "\(pid)" : "\(pid).\(generation)" }
}

/// The folders regions are made in, and what is in them.
///
/// The same rule as the library's: $MEMCTL_DIR if set, else /dev/shm/memctl-UID, here of every user
/// whose files may be read. Without $MEMCTL_DIR the mount namespaces of other processes (containers)
/// are looked through as well, by way of /proc/PID/root. A process that is named is also found by
/// the mapping it has of its region, wherever that is.
package struct RegionDirectory {
    private let chosen: String?

    package init(chosen: String? = getenv("MEMCTL_DIR").map { String(cString: $0) }) {
        self.chosen = chosen.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// Why no region is found, or made, in the folder that was chosen; nil: there is no reason.
    package func problem(making: Bool = false) -> String? {
        guard let chosen else { return nil }
        guard let folder = opendir(chosen) else { return Self.problem(chosen, errno) }
        closedir(folder)
        guard !making || access(chosen, W_OK) == 0 else { return Self.problem(chosen, errno) }
        return nil
    }

    private static func problem(_ folder: String, _ code: Int32) -> String {
        "MEMCTL_DIR names \(folder): \(message(code)) — name a folder of your own, or unset it"
    }

    /// All regions that can be read, the newest first; never memctl's own.
    package func entries() -> [RegionEntry] {
        var seen: Set<[UInt64]> = []
        var entries: [RegionEntry] = []
        var census = Census()
        for (folder, root) in folders() {
            for name in Descriptor.names(in: folder) {
                guard Self.generation(of: name) != nil,
                    let entry = try? self.entry(folder + "/" + name, root: root, census: &census),
                    entry.livePid != getpid(),
                    seen.insert([entry.file.device, entry.file.inode]).inserted
                else { continue }
                entry.file.rest()
                entries.append(entry)
            }
        }
        return entries.sorted {
            ($0.header.startNanoseconds, $0.pid) > ($1.header.startNanoseconds, $1.pid)
        }
    }

    /// The region of a process that lives here under this number.
    package func entry(livePid pid: Int32) throws(HeapImageError) -> RegionEntry {
        guard let status = ProcessStatus(pid: pid), !status.isEnding else {
            throw .noProcess(pid: pid)
        }
        guard let mappings = FileMapping.shared(of: pid) else {
            // Not allowed to look: a file of that name may still be readable.
            if let entry = entries().first(where: { $0.livePid == pid }) { return entry }
            throw LiveProcess.denial(pid: pid)
        }
        var failure: HeapImageError?
        var shared: RegionEntry?
        for mapping in mappings where mapping.offset == 0 {
            let isDeleted = mapping.path.hasSuffix(" (deleted)")
            let name = mapping.path.split(separator: "/").last.map(String.init) ?? ""
            guard Self.generation(of: isDeleted ? String(name.dropLast(10)) : name) != nil else {
                continue
            }
            // The name as the process sees it; a region that lost its name is reached by its range.
            let range = String(mapping.start, radix: 16) + "-" + String(mapping.end, radix: 16)
            let kernelsLink = "/proc/\(pid)/map_files/" + range
            for path in [mapping.path, "/proc/\(pid)/root" + mapping.path, kernelsLink] {
                do throws(HeapImageError) {
                    let file = try RegionFile(path: path, following: path == kernelsLink)
                    guard file.inode == mapping.inode else { continue }
                    let entry = try Self.entry(file, of: status)
                    if !entry.isShared { return entry }
                    shared = shared ?? entry
                    break
                } catch {
                    if case .cannotOpen(_, ENOENT) = error { continue }
                    failure = failure ?? error
                }
            }
        }
        if let shared { return shared }
        throw failure ?? .notPreloaded(pid: pid)
    }

    /// Is a process that can't be found certain to have ended? One in a pid namespace that can't be
    /// seen from here, but shares the folder, only looks so.
    package static func isCertainlyEnded(_ entry: RegionEntry) -> Bool {
        entry.livePid == nil && Census.canSee(entry.header)
    }

    /// Removes the file of a process that has ended.
    package func remove(_ entry: RegionEntry) throws(HeapImageError) {
        try remove(entry.file)
    }

    func remove(_ file: RegionFile) throws(HeapImageError) {
        var status = stat()
        let path = file.path
        // Another process may have got the number, and made a file of that name, meanwhile.
        guard lstat(path, &status) == 0, UInt64(status.st_dev) == file.device,
            UInt64(status.st_ino) == file.inode
        else { return }
        guard unlink(path) == 0 || errno == ENOENT else {
            throw .cannotWrite(path: path, code: errno)
        }
    }

    /// The region in a file that is named.
    package func entry(path: String) throws(HeapImageError) -> RegionEntry {
        var census = Census()
        return try entry(path, root: "", census: &census)
    }

    /// 0 for "PID", N for "PID.N", nil for what no region is called.
    package static func generation(of name: String) -> Int? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count <= 2, let pid = Int32(parts[0]), pid > 0, String(pid) == parts[0] else {
            return nil
        }
        guard parts.count == 2 else { return 0 }
        guard let number = Int(parts[1]), number > 0, String(number) == parts[1] else { return nil }
        return number
    }

    private func entry(
        _ path: String, root: String, census: inout Census
    ) throws(HeapImageError) -> RegionEntry {
        let file = try RegionFile(path: path)
        let header = try file.header()
        let name = path.split(separator: "/").last.map(String.init) ?? path
        var entry = RegionEntry(
            file: file, header: header, state: header.ending == .none ? .dead : .exited, root: root,
            generation: Self.generation(of: name) ?? 0)
        if let pid = census.owner(of: entry) { entry.live(as: pid, root: Self.root(of: pid)) }
        return entry
    }

    // MARK: Folders

    func folders() -> [(folder: String, root: String)] {
        if let chosen { return [(chosen, "")] }
        var found = Self.shared(below: "")
        guard let mine = Descriptor.link(at: "/proc/self/ns/mnt") else { return found }
        var known: Set<String> = [mine]
        for pid in ProcessStatus.pids() {
            guard let namespace = Descriptor.link(at: "/proc/\(pid)/ns/mnt"),
                known.insert(namespace).inserted
            else { continue }
            found += Self.shared(below: "/proc/\(pid)/root")
        }
        return found
    }

    /// Folders of users, which must belong to the user they are named after.
    private static func shared(below root: String) -> [(folder: String, root: String)] {
        let base = root + "/dev/shm"
        return Descriptor.names(in: base).compactMap { name in
            guard name.hasPrefix("memctl-"), UInt32(name.dropFirst(7)) != nil else { return nil }
            var status = stat()
            let folder = base + "/" + name
            guard lstat(folder, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
                return nil
            }
            return (folder, root)
        }
    }

    /// "" for a process that sees the same files as memctl.
    static func root(of pid: Int32) -> String {
        let theirs = Descriptor.link(at: "/proc/\(pid)/ns/mnt")
        let isSame = theirs == nil || theirs == Descriptor.link(at: "/proc/self/ns/mnt")
        let directory = Descriptor.link(at: "/proc/\(pid)/root")
        return isSame && (directory ?? "/") == "/" ? "" : "/proc/\(pid)/root"
    }
}
