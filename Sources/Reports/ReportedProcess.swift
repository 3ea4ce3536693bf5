// SPDX-License-Identifier: MIT
import HeapImage

/// Which process a report is about.
package struct ReportedProcess: Equatable, Sendable {
    package enum State: String, Sendable { case alive, dead, exited }

    package var pid: Int32
    /// What to give to `-p`: the pid, or PID.N for an earlier process with the same pid.
    package var label: String
    package var name: String
    package var executable: String
    package var state: State
    package var isTraced: Bool

    package init(
        pid: Int32, label: String? = nil, name: String, executable: String, state: State,
        isTraced: Bool
    ) {
        self.pid = pid
        self.label = label ?? "\(pid)"
        self.name = name
        self.executable = executable
        self.state = state
        self.isTraced = isTraced
    }

    package init(_ entry: RegionEntry) {
        let state: State =
            switch entry.state {
            case .alive: .alive
            case .dead: .dead
            case .exited: .exited
            }
        self.init(
            pid: entry.pid, label: entry.label, name: entry.header.name,
            executable: entry.header.executable, state: state, isTraced: entry.isTraced)
    }

    /// "1234 (nginx)", and how it ended if it did.
    package var title: String {
        let ending =
            switch state {
            case .alive: ""
            case .dead: ", ended abruptly"
            case .exited: ", exited"
            }
        return "\(label) (\(Layout.safe(name))\(ending))"
    }

    /// A report as JSON: one object, of which the process is the first field.
    func writeReport(to output: inout Output, _ body: (inout JSONWriter) -> Void) {
        JSONWriter.write(to: &output) { json in
            json.object { json in
                write(to: &json)
                body(&json)
            }
        }
    }

    func write(to json: inout JSONWriter) {
        json.object("process") { json in
            json.field("pid", Int(pid))
            json.field("label", label)
            json.field("name", name)
            json.field("executable", executable)
            json.field("state", state.rawValue)
            json.field("traced", isTraced)
        }
    }
}
