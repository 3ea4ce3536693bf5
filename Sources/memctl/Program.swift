// SPDX-License-Identifier: MIT
import Glibc
import HeapImage

/// A command line that is to run with the library preloaded.
struct Program: Equatable {
    var arguments: [String]
    /// Set beside what the environment has.
    var variables: [String: String]

    /// `arguments` as the command line had them: a leading "--" is not the program's.
    init(
        _ arguments: [String], library: String, trace: Bool, keep: Bool,
        hugePages: HugePages? = nil, settings: TraceSettings = TraceSettings()
    ) {
        self.arguments = arguments.first == "--" ? Array(arguments.dropFirst()) : arguments
        let others = getenv("LD_PRELOAD").map { String(cString: $0) } ?? ""
        variables = ["LD_PRELOAD": others.isEmpty ? library : library + ":" + others]
        let mode = settings.interval.map { "sampled:\($0.bytes)" } ?? "on"
        if trace { variables["MEMCTL_TRACE"] = mode }
        if settings.maps { variables["MEMCTL_TRACE_MMAP"] = "1" }
        if keep { variables["MEMCTL_KEEP"] = "1" }
        if let hugePages { variables["MEMCTL_HUGE_PAGES"] = hugePages.rawValue }
        if let depth = settings.depth { variables["MEMCTL_DEPTH"] = "\(depth)" }
    }

    /// Becomes the program: its pid, its signals and its exit status are its own.
    func replaceThisProcess() -> ProgramError {
        for (name, value) in variables { setenv(name, value, 1) }
        let code = withArguments { execvp($0, $1) == 0 ? 0 : errno }
        return ProgramError(name: arguments.first ?? "", code: code)
    }

    /// Runs it and waits; returns its pid and what waitpid(2) says of its end.
    ///
    /// Keys that interrupt reach the program; this process outlives it to report.
    func runToItsEnd() throws -> (pid: pid_t, status: Int32) {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var interrupts = sigset_t()
        sigemptyset(&interrupts)
        for number in [SIGINT, SIGQUIT] {
            sigaddset(&interrupts, number)
            signal(number, SIG_IGN)
        }
        posix_spawnattr_setsigdefault(&attributes, &interrupts)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))
        for (name, value) in variables { setenv(name, value, 1) }
        var pid: pid_t = 0
        let code = withArguments { posix_spawnp(&pid, $0, nil, &attributes, $1, environ) }
        guard code == 0 else { throw ProgramError(name: arguments.first ?? "", code: code) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return (pid, status)
    }

    private func withArguments(
        _ body: (UnsafePointer<CChar>, UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Int32
    ) -> Int32 {
        var pointers = arguments.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        pointers.append(nil)
        guard let name = pointers[0] else { return ENOENT }
        return body(name, pointers)
    }
}

/// Why a program could not be started; with the exit status a shell would give.
struct ProgramError: Error, Equatable, CustomStringConvertible {
    var name: String
    var code: Int32

    var exitStatus: Int32 { code == ENOENT ? 127 : 126 }

    var description: String {
        code == ENOENT
            ? "can't run \(name): there is no such program — check the name and PATH"
            : "can't run \(name): \(message(code)) — check that it is an executable file"
    }
}
