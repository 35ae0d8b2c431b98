import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { expect } from "chai";
import { expectFree } from "./listen.ts";

const complaint = (text: string): Promise<string> =>
  expectFree("--listen", text).then(
    () => "",
    (error: Error) => error.message,
  );

describe("where the endpoint listens", () => {
  it("is tried, and left free", async () => {
    expect(await complaint("127.0.0.1:0")).to.equal("");
  });

  it("is refused where somebody else listens, with what to do", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    expect(await complaint(`127.0.0.1:${port}`)).to.match(/^--listen \S+ .*EADDRINUSE.*; choose another port, or 0/);
    server.close();
  });

  for (const text of ["nowhere", "8080", "127.0.0.1:99999", "::1:8080"])
    it(`is refused where it is no address: ${text}`, async () => {
      expect(await complaint(text)).to.equal(`--listen ${text}: expected host:port, such as 127.0.0.1:8080`);
    });
});
