/** A run that sandbox.test.ts kills: makes namespaces with a process and a control group in them, says so, and waits. */
import { nodeBinaries } from "../../tools/kube/build.ts";
import { makeControlGroup } from "./control-groups.ts";
import { startSandbox } from "./sandbox.ts";

const { pause } = await nodeBinaries();
const nodes = [{ namespace: "node1", address: "10.90.0.11", subnet: "10.244.1.0/24" }];
const sandbox = await startSandbox({ init: pause, address: "10.90.0.1", nodes });
makeControlGroup(`${sandbox.controlGroup}/n1`);
const into = `for hierarchy in $(find /sys/fs/cgroup -name ${sandbox.controlGroup}); do echo $$ >$hierarchy/n1/cgroup.procs; done`;
sandbox.start("left", ["/bin/sh", "-c", `${into}; exec ${pause}`], "node1");
const { folder, controlGroup, process1 } = sandbox;
console.log(JSON.stringify({ folder, controlGroup, process1 }));
setInterval(() => {}, 60_000);
