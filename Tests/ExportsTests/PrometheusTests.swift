// SPDX-License-Identifier: MIT
import HeapImage
import Reports
import Testing

@testable import Exports

private let process = ReportedProcess(
    pid: 12, name: "a\"b\\c\nd", executable: "/usr/bin/app", state: .alive, isTraced: true)

@Suite struct PrometheusTests {
    @Test func namesHelpAndSamples() {
        var metrics = Prometheus(process)
        metrics.gauge("memctl_x_bytes", "Bytes of \\ x.", 5)
        metrics.gauge("memctl_unknown", "Nobody knows.", UInt64?.none)
        metrics.counter("memctl_y", "Ys.", [([("kind", "a")], 1), ([("kind", "b\"")], 2)])
        metrics.gauge(
            "memctl_z_ratio", "Zs.", shares: [([], Share(1, of: 8)), ([], Share(0, of: 0))])
        #expect(
            Output.text { metrics.write(to: &$0) } == #"""
                # HELP memctl_x_bytes Bytes of \\ x.
                # TYPE memctl_x_bytes gauge
                memctl_x_bytes{pid="12",process="a\"b\\c\nd"} 5
                # HELP memctl_y_total Ys.
                # TYPE memctl_y_total counter
                memctl_y_total{pid="12",process="a\"b\\c\nd",kind="a"} 1
                memctl_y_total{pid="12",process="a\"b\\c\nd",kind="b\""} 2
                # HELP memctl_z_ratio Zs.
                # TYPE memctl_z_ratio gauge
                memctl_z_ratio{pid="12",process="a\"b\\c\nd"} 0.125

                """#)
    }
}

@Suite struct MapPictureTests {
    private let picture = HeapPicture(
        process: process, cellBytes: 16384,
        blocks: [
            .init(
                title: "arena", start: 0x100000, size: 1 << 22, populated: 1 << 20,
                runs: [
                    .init(.slots(64), fill: 7, cells: 100), .init(.free, cells: 60),
                    .init(.large, fill: 10, cells: 3), .init(.empty, cells: 93),
                ])
        ], reserved: 1 << 22, populated: 1 << 20, used: 5000)

    @Test func itIsWellFormedAndWhole() {
        let text = Output.text { MapPicture(picture).write(to: &$0) }
        #expect(text.hasPrefix("<svg xmlns=\"http://www.w3.org/2000/svg\""))
        #expect(text.hasSuffix("</svg>\n"))
        #expect(text.contains("heap of process 12 (a&quot;b\\c"))
        // A run that goes over a row's end is two rectangles.
        let titles = text.components(of: "<title>free, populated</title>")
        #expect(titles == 2)
        #expect(text.components(of: "<rect") == text.components(of: "stroke-width=\"0.") + 1)
        #expect(!text.contains("href"))
    }

    @Test func coloursTellClassAndFill() {
        var seen: Set<String> = []
        for size in [16, 64, 256, 1024, 4096, 16384, 65536] as [UInt64] {
            for fill in [1, 5, 10] { seen.insert(MapPicture.colour(.slots(size), fill: fill)) }
        }
        #expect(seen.count == 21)
    }
}

extension String {
    fileprivate func components(of part: String) -> Int {
        var count = 0
        var rest = self[...]
        while let range = rest.firstRange(of: part) {
            count += 1
            rest = rest[range.upperBound...]
        }
        return count
    }
}
