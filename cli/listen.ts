/** Where a server of the user's is to listen, tried before anything is started for it. */
import { once } from "node:events";
import { createServer } from "node:net";
import { RefusalError, refuse } from "../core/result.ts";

/** Goes on where `text` is `host:port` (`[::1]:port`; port 0: any free one) and free; otherwise throws a RefusalError. */
export async function expectFree(option: string, text: string): Promise<void> {
  const found = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  if (found === null || port > 65_535)
    throw new RefusalError(refuse("BadOption", `${option} ${text}: expected host:port, such as 127.0.0.1:8080`));
  const server = createServer();
  try {
    await once(server.listen(port, found[1] ?? found[2]), "listening");
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const detail = `${option} ${text}: ${why}; choose another port, or 0 for any that is free`;
    throw new RefusalError(refuse("AddressTaken", detail));
  }
  server.close();
  await once(server, "close");
}
