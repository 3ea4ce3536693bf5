// SPDX-License-Identifier: MIT
// JavaScript: native code called from compiled code, and compiled code called from native code.
const zlib = require("zlib");
const crypto = require("crypto");
const end = Date.now() + 1000 * Number(process.argv[2] || 2);
function recurse(depth, i) {
    if (depth === 0) {
        const text = JSON.stringify({ a: [i, "x".repeat(i % 50)] });
        return Buffer.from(text).toString("base64").length;
    }
    return recurse(depth - 1, i + 1) + 1;
}
let total = 0;
for (let i = 0; Date.now() < end; i++) {
    total += recurse(i % 30, i);
    total += [3, 1, 2, 9, 7].map((x) => x * i).sort((a, b) => recurse(2, a) - recurse(1, b)).length;
    const hash = crypto.createHash("sha256").update(String(total)).digest("hex");
    total += hash.replace(/[0-9]+/g, (s) => s + s).length;
    if (i % 50 === 0) total += zlib.deflateSync(Buffer.alloc(5000, total & 255)).length;
}
if (!(total > 0)) process.exit(1);
