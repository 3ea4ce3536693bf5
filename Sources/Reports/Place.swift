// SPDX-License-Identifier: MIT
import HeapImage
import Symbols

/// Where a frame's return address leads: one line, or several when code was inlined there.
package struct Place: Equatable, Sendable {
    package var pc: UInt64
    /// Innermost inlined function first, the real one last; never empty.
    package var locations: [Location]

    package init(pc: UInt64, locations: [Location]) {
        self.pc = pc
        self.locations = locations.isEmpty ? [Location()] : locations
    }

    /// A line per location: `function+0x12 file.c:34 (module)`, without the frame's number.
    package var lines: [String] { locations.map { parts(of: $0).joined(separator: " ") } }

    /// The same, with what does not fit behind the function put on a line of its own.
    func lines(width: Int, indent: String) -> [String] {
        locations.map { location in
            let parts = self.parts(of: location)
            let line = parts.joined(separator: " ")
            guard line.count > width, let first = parts.first, parts.count > 1 else { return line }
            return first + "\n" + indent + parts.dropFirst().joined(separator: " ")
        }
    }

    private func parts(of location: Location) -> [String] {
        var parts: [String] = []
        if let function = location.function {
            let offset = location.isInlined ? "" : "+" + hex(location.offset)
            parts.append(Layout.safe(function) + offset)
        } else if let offset = location.moduleOffset, location.module != nil {
            parts.append(hex(offset))
        } else {
            parts.append(hex(pc))
        }
        if let file = location.file {
            let name = Layout.safe(Self.lastPart(file))
            parts.append(location.line.map { "\(name):\($0)" } ?? name)
        }
        if location.isInlined {
            parts.append("(inlined)")
        } else if let module = location.module, !module.isEmpty {
            parts.append("(\(Layout.safe(Self.lastPart(module))))")
        }
        return parts
    }

    /// Names alone, innermost first; where there is none, the place in its module.
    package var functions: [String] {
        locations.map { $0.function.map(Layout.safe) ?? moduleOffset }
    }

    /// `module+0x1234`, as tools outside take it.
    package var moduleOffset: String {
        guard let location = locations.last, let offset = location.moduleOffset,
            let module = location.module
        else { return hex(pc) }
        return Layout.safe(Self.lastPart(module)) + "+" + hex(offset)
    }

    static func lastPart(_ path: String) -> String {
        path.split(separator: "/").last.map(String.init) ?? path
    }

    /// One JSON object a location, with commas between.
    var json: [UInt8] {
        let text = Output.text { output in
            JSONWriter.write(to: &output) { json in
                json.array { json in
                    for location in locations { write(location, to: &json) }
                }
            }
        }
        return Array(text.utf8.dropFirst().dropLast(2))
    }

    private func write(_ location: Location, to json: inout JSONWriter) {
        json.object { json in
            json.field("pc", hex(pc))
            json.field("function", location.function)
            json.field("offset", location.function == nil ? nil : location.offset)
            json.field("file", location.file)
            json.field("line", location.line)
            json.field("module", location.module)
            json.field("module_offset", location.moduleOffset.map(hex))
            json.field("inlined", location.isInlined)
        }
    }
}
