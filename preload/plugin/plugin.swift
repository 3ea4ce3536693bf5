// Builds libmemctl.so with the C compiler of the toolchain during `swift build`.
//
// A library that SwiftPM links itself records a need for the Swift runtime; a preload must need
// libc alone. So the target in preload/ carries this plugin, and the library is its resource:
// .build/CONFIGURATION/memctl_CPreload.resources/libmemctl.so.
import Foundation
import PackagePlugin

@main
struct PreloadPlugin: BuildToolPlugin {
    func createBuildCommands(context: PluginContext, target: Target) throws -> [Command] {
        let root = context.package.directoryURL
        let script = root.appending(path: "preload/build.sh")
        let library = context.pluginWorkDirectoryURL.appending(path: "libmemctl.so")
        let sources = [
            "Sources/CRegion", "Sources/CBase", "Sources/CHeap", "Sources/CTrace", "preload",
        ]
        .flatMap { files(under: root.appending(path: $0)) }
        return [
            .buildCommand(
                displayName: "Building libmemctl.so",
                executable: URL(filePath: "/bin/sh"),
                arguments: [script.path(), library.path()],
                inputFiles: sources + [script],
                outputFiles: [library])
        ]
    }

    private func files(under folder: URL) -> [URL] {
        let names = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)
        return (names?.compactMap { $0 as? URL } ?? [])
            .filter { ["c", "h", "map", "txt"].contains($0.pathExtension) }
            .sorted { $0.path() < $1.path() }
    }
}
