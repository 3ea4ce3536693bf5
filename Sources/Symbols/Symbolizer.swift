// SPDX-License-Identifier: MIT

/// Turns addresses of a process, live or dead, into function names and source lines.
///
/// Files are opened when the first address in them is asked for; every answer is kept, so asking
/// again costs a look into a table. Whatever the modules' paths and files turn out to be, the worst
/// that comes of it is names that are missing; `problems` says which and why.
/// One thread at a time.
package final class Symbolizer {
    /// Files that gave no names or not all: what failed — what to do.
    package private(set) var problems: [String] = []

    private let modules: [Module]
    private let map: ModuleMap
    private let surroundings: ObjectFile.Surroundings
    private let perfMap: PerfMap?
    private var answers = AnswerTable()
    private var objects: [ObjectKey: ObjectFile] = [:]
    private var moduleAnswers: [ModuleQuestion: [Location]] = [:]

    private struct ModuleQuestion: Hashable {
        let address: UInt64
        let module: Int
    }
    private struct ObjectKey: Hashable {
        let path: String
        let buildID: [UInt8]
    }

    /// `root` is where the process' root directory is seen from here, for a container
    /// `/proc/PID/root`.
    ///
    /// `processID` lets files be read that the process still holds though they were deleted; by
    /// default it is taken from such a `root`.
    package init(
        modules: [Module], root: String = "", debugDirectories: [String] = ["/usr/lib/debug"],
        perfMap: PerfMap? = nil, processID: Int32? = nil
    ) {
        self.modules = modules
        map = ModuleMap(modules)
        let directory = root == "/" ? "" : root
        surroundings = ObjectFile.Surroundings(
            root: directory, processID: processID ?? Self.processID(in: root),
            search: DebugFileSearch(
                root: directory, directories: debugDirectories, servers: Debuginfod()))
        self.perfMap = perfMap
    }

    private static func processID(in root: String) -> Int32? {
        let parts = root.split(separator: "/")
        guard parts.count == 3, parts[0] == "proc", parts[2] == "root" else { return nil }
        return Int32(parts[1])
    }

    /// Innermost inlined function first, the real function last; never empty.
    ///
    /// `pc` is an address calls return to, so what counts is the instruction before it.
    package func locations(ofReturnAddress pc: UInt64, epoch: UInt32) -> [Location] {
        if let answer = answers.find(pc, epoch) { return answer }
        let answer: [Location]
        if let index = map.index(of: pc &- 1, epoch: epoch) {
            let moduleQuestion = ModuleQuestion(address: pc, module: index)
            if let known = moduleAnswers[moduleQuestion] {
                answer = known
            } else {
                answer = locations(of: pc, in: modules[index])
                moduleAnswers[moduleQuestion] = answer
            }
        } else {
            answer = [perfLocation(of: pc) ?? Location()]
        }
        answers.insert(answer, pc, epoch)
        return answer
    }

    private func perfLocation(of pc: UInt64) -> Location? {
        guard let entry = perfMap?.entry(containing: pc &- 1) else { return nil }
        return Location(function: entry.name, offset: pc &- entry.start)
    }

    private func locations(of pc: UInt64, in module: Module) -> [Location] {
        let offset = pc &- module.bias
        let frames = object(for: module).frames(at: offset &- 1, problem: add)
        let answer = frames.map { frame in
            Location(
                function: frame.function?.text,
                offset: frame.isInlined || frame.function == nil ? 0 : offset &- frame.start,
                file: frame.file, line: frame.line, column: frame.column,
                isInlined: frame.isInlined, module: module.path, moduleOffset: offset)
        }
        if answer.last?.function == nil, var location = perfLocation(of: pc) {
            location.module = module.path
            location.moduleOffset = offset
            return [location]
        }
        return answer.isEmpty ? [Location(module: module.path, moduleOffset: offset)] : answer
    }

    private func object(for module: Module) -> ObjectFile {
        let key = ObjectKey(path: module.path, buildID: module.buildID)
        if let known = objects[key] { return known }
        let opened = ObjectFile(module, surroundings, problem: add)
        objects[key] = opened
        return opened
    }

    private func add(problem: String) {
        guard problems.count < 1000, !problems.contains(problem) else { return }
        problems.append(problem)
    }
}
