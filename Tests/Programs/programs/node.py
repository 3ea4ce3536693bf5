# SPDX-License-Identifier: MIT
"""node: worker threads, buffers outside the JavaScript heap, zlib, crypto, WebAssembly, children."""

NEEDS = ["node"]
WEIGHT = 5
KILLS = True  # it ends with _exit

SCRIPT = r"""
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto'), zlib = require('zlib'), { execFileSync } = require('child_process');
const hash = (x) => crypto.createHash('sha256').update(x).digest('hex');
function churn(seed, rounds) {
  const keep = new Map(); let x = seed >>> 0, sum = 0;
  for (let i = 0; i < rounds; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    const b = Buffer.alloc(1 + (x >>> 8) % 20000, x & 255);
    keep.set(x % 200, b); sum = (sum + b[b.length - 1] + b.length) | 0;
  }
  return sum + ':' + hash(Buffer.concat([...keep.entries()].sort((a, b) => a[0] - b[0]).map((e) => e[1])));
}
if (!isMainThread) {
  const packed = zlib.deflateSync(Buffer.from('worker ' + workerData.n + ' text '.repeat(5000)));
  parentPort.postMessage([workerData.n, churn(workerData.n, workerData.rounds), hash(packed),
    zlib.inflateSync(packed).length]);
} else (async () => {
  const rounds = +process.argv[2];
  for (let wave = 0; wave < 2; wave++) {
    const done = await Promise.all([1, 2, 3, 4].map((n) => new Promise((ok, bad) => {
      const w = new Worker(__filename, { workerData: { n: n + wave * 10, rounds } });
      w.on('message', ok); w.on('error', bad);
    })));
    for (const line of done.sort((a, b) => a[0] - b[0])) console.log(line.join(' '));
  }
  console.log(churn(99, rounds));
  const text = Buffer.from(JSON.stringify(Array.from({ length: 40000 }, (_, i) => ({ i, s: 'x'.repeat(i % 30) }))));
  for (const [name, pack, back] of [['gzip', zlib.gzip, zlib.gunzip], ['br', zlib.brotliCompress, zlib.brotliDecompress]]) {
    const p = await new Promise((ok, bad) => pack(text, name === 'br' ? { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 5 } } : {}, (e, r) => e ? bad(e) : ok(r)));
    const b = await new Promise((ok, bad) => back(p, (e, r) => e ? bad(e) : ok(r)));
    console.log(name, hash(p), b.equals(text));
  }
  const { publicKey, privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 1024 });
  console.log(crypto.verify('sha256', text, publicKey, crypto.sign('sha256', text, privateKey)));
  console.log((await Promise.all(Array.from({ length: 8 }, (_, i) => new Promise((ok) => crypto.pbkdf2('p' + i, 's', 2000, 32, 'sha512', (e, k) => ok(k.toString('hex')))))) ).join());
  const wasm = new WebAssembly.Module(new Uint8Array([0,97,115,109,1,0,0,0,1,7,1,96,2,127,127,1,127,3,2,1,0,7,7,1,3,97,100,100,0,0,10,9,1,7,0,32,0,32,1,106,11]));
  let s = 0; const add = new WebAssembly.Instance(wasm).exports.add; for (let i = 0; i < 1e6; i++) s = add(s, i); console.log(s);
  console.log(execFileSync('sh', ['-c', 'echo child; seq 1 2000 | tail -1']).toString());
  let deep = {}; for (let i = 0; i < 100000; i++) deep = { deep }; console.log(typeof deep);
  console.log('done');
})().catch((e) => { console.error(e); process.exit(3); });
"""


def run(stage):
    script = stage.write("s.js", SCRIPT)
    stage.run(["node", script, "30000" if stage.long else "4000"], limit=180)
    stage.run(["node", "--jitless", "-e", "console.log([...Array(1e5).keys()].map(String).join().length)"])
