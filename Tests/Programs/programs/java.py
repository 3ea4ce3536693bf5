# SPDX-License-Identifier: MIT
"""java: the compiler in the JVM, threads, direct buffers, zip streams, garbage collectors."""

NEEDS = ["java"]
WEIGHT = 8
KILLS = True  # the JVM ends children with _exit

PROGRAM = r"""
import java.io.*; import java.nio.*; import java.security.*; import java.util.*;
import java.util.concurrent.*; import java.util.stream.*; import java.util.zip.*;
public class Main {
    static String churn(int seed, int rounds) throws Exception {
        Map<Integer, ByteBuffer> keep = new HashMap<>(); Random chance = new Random(seed); long sum = 0;
        for (int i = 0; i < rounds; i++) {
            ByteBuffer b = ByteBuffer.allocateDirect(16 + chance.nextInt(8000));
            b.putInt(0, i); sum += b.getInt(0) + b.capacity(); keep.put(chance.nextInt(100), b);
        }
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (GZIPOutputStream zip = new GZIPOutputStream(bytes)) { zip.write(("text " + seed).repeat(3000).getBytes()); }
        int size = new GZIPInputStream(new ByteArrayInputStream(bytes.toByteArray())).readAllBytes().length;
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(bytes.toByteArray());
        return seed + " " + sum + " " + size + " " + HexFormat.of().formatHex(digest, 0, 8);
    }
    public static void main(String[] words) throws Exception {
        int rounds = Integer.parseInt(words[0]);
        ExecutorService pool = Executors.newFixedThreadPool(6);
        List<Future<String>> all = new ArrayList<>();
        for (int n = 0; n < 12; n++) { int seed = n; all.add(pool.submit(() -> churn(seed, rounds))); }
        for (Future<String> f : all) System.out.println(f.get());
        pool.shutdown();
        Map<Integer, Long> sizes = IntStream.range(0, 200000).parallel().mapToObj(i -> "" + i).collect(Collectors.groupingBy((String s) -> s.length(), TreeMap::new, Collectors.counting()));
        System.out.println(sizes);
        List<Thread> many = new ArrayList<>(); var count = new java.util.concurrent.atomic.AtomicInteger();
        for (int i = 0; i < 200; i++) { Thread t = new Thread(() -> count.addAndGet(new int[1000].length)); t.start(); many.add(t); }
        for (Thread t : many) t.join();
        System.out.println(count);
        System.gc();
        Process p = new ProcessBuilder("sh", "-c", "echo from a child").start();
        System.out.print(new String(p.getInputStream().readAllBytes())); System.out.println(p.waitFor());
        try { deep(0); } catch (StackOverflowError e) { System.out.println("overflow caught"); }
        System.out.println("done");
    }
    static int deep(int n) { return deep(n + 1) + 1; }
}
"""


def run(stage):
    stage.write("Main.java", PROGRAM)
    rounds = "20000" if stage.long else "2000"
    words = ["java", "-XX:-UsePerfData", "-Xmx256m", "-Djava.io.tmpdir=" + str(stage.work)]
    collectors = ["-XX:+UseG1GC", "-XX:+UseSerialGC", "-XX:+UseZGC", "-XX:+UseShenandoahGC"]
    for collector in collectors if stage.long else collectors[:1]:
        stage.run([*words, collector, "Main.java", rounds], limit=200)
    stage.run([*words, "-Xint", "-XX:TieredStopAtLevel=1", "Main.java", "50"], limit=200)
