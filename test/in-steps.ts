/**
 * Suites that tell one story, in which each step stands on the one before. Mocha's own bail looks at the whole run: after
 * a failure anywhere it drops every test of such a suite, and says nothing. Here a step after one that failed fails too.
 */
import type { Suite } from "mocha";

/** To be called first in the suite's body, with mocha's `this`. Steps are the suite's own tests, not those of inner suites. */
export function inSteps(suite: Suite): void {
  suite.beforeEach("stands on the step before", function () {
    const step = this.currentTest;
    const failed = suite.tests.find(({ state }) => state === "failed");
    if (step === undefined || failed === undefined) return;
    step.fn = () => {
      throw new Error(`not tried: it stands on "${failed.title}", which failed`);
    };
  });
}
