/**
 * Runs inside the test cluster's network and lets the tests in: listens on the unix socket named by its argument; the
 * first line of a connection is `HOST PORT`, all after it goes there and back.
 */
import { connect, createServer } from "node:net";

const [socketPath = ""] = process.argv.slice(2);

const server = createServer({ allowHalfOpen: true }, (client) => {
  client.once("data", (first: Buffer) => {
    client.pause();
    const end = first.indexOf("\n");
    const [host = "", port = ""] = first.subarray(0, end).toString("utf8").split(" ");
    const target = connect({ host, port: Number(port), allowHalfOpen: true }, () => {
      target.write(first.subarray(end + 1));
      client.pipe(target);
      target.pipe(client);
    });
    // A refused or broken connection there is a broken connection here.
    target.on("error", () => client.destroy());
    target.on("close", () => client.destroy());
    client.on("error", () => target.destroy());
    client.on("close", () => target.destroy());
  });
  client.on("error", () => client.destroy());
});
server.listen(socketPath);
