// swift-tools-version: 6.1
// The targets and who may use whom; docs/layers.md tells it in words.
//
//     C:      CRegion <- CBase <- {CHeap, CTrace} <- preload
//     Swift:  CRegion <- HeapImage; {HeapImage, Symbols} <- Reports <- Exports <- memctl
//
// libmemctl.so is not a product: a library that SwiftPM links needs the Swift runtime, and a
// preload must need libc alone. The plugin in preload/plugin runs the C compiler instead.
import PackageDescription

let package = Package(
    name: "memctl",
    products: [
        .executable(name: "memctl", targets: ["memctl"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
    ],
    targets: [
        // The ABI between heap and tool.
        .target(name: "CRegion"),

        // The library, in C. SwiftPM compiles these for its own checks; what is shipped is built
        // by the plugin, from the same files, with the flags a preload needs.
        .target(name: "CBase", dependencies: ["CRegion"]),
        .target(name: "CHeap", dependencies: ["CRegion", "CBase"]),
        .target(name: "CTrace", dependencies: ["CRegion", "CBase"]),
        .target(
            name: "CPreload", path: "preload",
            exclude: ["plugin", "build.sh", "exports.map", "order.txt"],
            sources: ["target/target.c"], publicHeadersPath: "target", plugins: ["PreloadPlugin"]),
        .plugin(name: "PreloadPlugin", capability: .buildTool(), path: "preload/plugin"),

        // The tool, in Swift.
        .systemLibrary(
            name: "CDw", path: "Sources/CDw", pkgConfig: "libdw",
            providers: [.apt(["libdw-dev"])]),
        .systemLibrary(name: "CKernel", path: "Sources/CKernel"),
        .target(name: "HeapImage", dependencies: ["CRegion", "CKernel"]),
        .target(name: "CDemangle", linkerSettings: [.linkedLibrary("stdc++")]),
        .target(name: "Symbols", dependencies: ["CDw", "CDemangle"]),
        .target(name: "Reports", dependencies: ["HeapImage", "Symbols"]),
        .target(name: "Exports", dependencies: ["HeapImage", "Reports"]),
        .executableTarget(
            name: "memctl",
            dependencies: [
                "HeapImage", "Symbols", "Reports", "Exports",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),

        .testTarget(name: "HeapImageTests", dependencies: ["HeapImage", "CRegion"]),
        .testTarget(name: "SymbolsTests", dependencies: ["Symbols"]),
        .testTarget(name: "ReportsTests", dependencies: ["Reports", "HeapImage", "Symbols"]),
        .testTarget(
            name: "ExportsTests", dependencies: ["Exports", "Reports", "HeapImage", "Symbols"]),
        .testTarget(
            name: "MemctlTests",
            dependencies: [
                "memctl", "HeapImage", "CRegion",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
    ],
    cLanguageStandard: .gnu17
)
