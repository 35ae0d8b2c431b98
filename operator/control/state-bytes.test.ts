import { expect } from "chai";
import { loadService } from "../../core/wire/proto.ts";
import { EncodedModels, encodeState } from "./state-bytes.ts";

const { Put } = loadService("Control").service;
const MODELS = ["a", "b", "c"].map((name, index) => ({
  name,
  namespace: "models",
  layerCount: 12,
  chains: [
    { index, ready: index > 0, draining: index === 2, ranks: [{ name: `${name}-0-0-0`, provider: "p", node: "n" }] },
  ],
}));
const HEAD = {
  fence: 7,
  providers: [{ name: "p", publicKey: "key", admitted: true }],
  ledgerAddress: "127.0.0.1:7",
};

describe("a state that is encoded model by model", () => {
  it("is read as the same that is encoded at once", async () => {
    const parts = await new EncodedModels().of(MODELS, () => undefined);
    const gateways = [{ name: "g", publicKey: "key" }];
    const bytes = Buffer.concat([encodeState(HEAD), ...parts.map((part) => part.bytes), encodeState({ gateways })]);
    const whole = Put.requestSerialize({ ...HEAD, models: MODELS, gateways });
    expect(Put.requestDeserialize(bytes)).to.deep.equal(Put.requestDeserialize(whole));
    expect(parts.map(({ drains }) => drains)).to.deep.equal([false, false, true]);
  });

  it("is encoded once for as long as a model is the same object, and lets others have their turn", async () => {
    const models = new EncodedModels();
    let turns = 0;
    const turn = async () => void (turns += 1);
    const [a, b] = await models.of(MODELS, turn);
    const [first, changed] = await models.of([...MODELS.slice(0, 1), { ...MODELS[1] }], turn);
    expect(first).to.equal(a);
    expect(changed?.bytes).to.deep.equal(b?.bytes);
    expect(changed).not.to.equal(b);
    expect(turns).to.equal(5);
  });
});
