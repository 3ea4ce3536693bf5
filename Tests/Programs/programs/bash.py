# SPDX-License-Identifier: MIT
"""bash: loops with many forks, subshells, pipes, arrays, traps and background jobs."""

NEEDS = ["bash"]
WEIGHT = 4
KILLS = True

SCRIPT = r"""
set -u
sum=0
for i in $(seq 1 ROUNDS); do
    x=$(echo "$i" | tr 0-9 a-j)              # fork, pipe, exec
    y=$( (echo "$x"; (echo nested; :) ) | wc -l)
    sum=$((sum + y + ${#x}))
    [ $((i % 50)) = 0 ] && echo "at $i: $sum $x"
done
declare -A table
for i in {1..20000}; do table[key$i]="value $i"; done
echo "${#table[@]} ${table[key777]}"
text=; for i in {1..4000}; do text+="word$i "; done
echo "${#text} ${text//word/W}" | md5sum
list=({1..5000}); echo "${list[*]:4990}" "${#list[@]}"
for i in {1..30}; do ( sleep 0.0$((i % 5)); exit $((i % 7)) ) & pids[i]=$!; done
for i in {1..30}; do wait "${pids[i]}"; echo -n "$? "; done; echo
trap 'echo caught' USR1
kill -USR1 $$; (kill -USR1 $$); sleep 0.05
sleep 100 & kill $!; wait $! 2>/dev/null; echo "killed: $?"
coproc cat; echo hello >&"${COPROC[1]}"; read -r line <&"${COPROC[0]}"; echo "$line"
eval "exec ${COPROC[1]}>&-"; wait
diff <(seq 1 3000) <(seq 1 3000) && echo same
f() { local n=$1; [ "$n" = 0 ] && { echo deep; return; }; f $((n - 1)); }
f 500
mapfile -t lines < <(seq 1 10000); echo "${#lines[@]} ${lines[9999]}"
exec -a other bash -c 'echo $0; ulimit -v 400000; echo limited | cat'
"""


def run(stage):
    script = SCRIPT.replace("ROUNDS", "600" if stage.long else "150")
    stage.run(["bash", stage.write("s.sh", script)], limit=120)
    stage.run(["sh", "-c", "i=0; while [ $i -lt 200 ]; do (exit 0); i=$((i+1)); done; echo $i"])
