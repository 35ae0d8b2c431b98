/** Suites in steps, run by a mocha inside of this one. */
import { expect } from "chai";
import Mocha from "mocha";
import { inSteps } from "./in-steps.ts";

type Ended = { readonly title: string; readonly error?: string };

async function ended(root: Mocha.Suite): Promise<readonly Ended[]> {
  const all: Ended[] = [];
  const runner = new Mocha.Runner(root, {});
  runner.on("pass", ({ title }) => all.push({ title }));
  runner.on("fail", ({ title }, error: Error) => all.push({ title, error: error.message }));
  await new Promise<void>((resolve) => {
    runner.run(() => resolve());
  });
  return all;
}

function suiteOf(root: Mocha.Suite, title: string, steps: Readonly<Record<string, () => void>>): Mocha.Suite {
  const suite = Mocha.Suite.create(root, title);
  for (const [step, body] of Object.entries(steps)) suite.addTest(new Mocha.Test(step, body));
  return suite;
}

const fails = () => {
  throw new Error("broken");
};

describe("a suite in steps", () => {
  let root: Mocha.Suite;
  beforeEach(() => {
    root = new Mocha.Suite("", new Mocha.Context());
  });

  it("runs whatever failed before it, elsewhere", async () => {
    suiteOf(root, "elsewhere", { "has failed": fails });
    inSteps(suiteOf(root, "in steps", { first: () => undefined, second: () => undefined }));
    expect(await ended(root)).to.deep.equal([
      { title: "has failed", error: "broken" },
      { title: "first" },
      { title: "second" },
    ]);
  });

  it("fails the steps after one that failed, without trying them, and names it", async () => {
    let tried = false;
    const third = () => {
      tried = true;
    };
    inSteps(suiteOf(root, "in steps", { first: () => undefined, second: fails, third }));
    const why = 'not tried: it stands on "second", which failed';
    expect(await ended(root)).to.deep.equal([
      { title: "first" },
      { title: "second", error: "broken" },
      { title: "third", error: why },
    ]);
    expect(tried).to.equal(false);
  });
});
