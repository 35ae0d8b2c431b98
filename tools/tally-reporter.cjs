// Mocha's spec reporter, which also writes {passed, failed, pending, untried, failures} as JSON into the file that
// TALLY_FILE names. Untried are tests that mocha dropped without a word, as behind a hook that failed. Failures are
// {title, reason}, to be said once more where all tiers have run: in a long log the first would be far up.
const { writeFileSync } = require("node:fs");
const Mocha = require("mocha");

const REASON_LINES = 12;
const reasonOf = ({ stack, message } = {}) => String(stack || message).split("\n").slice(0, REASON_LINES).join("\n");

module.exports = class TallyReporter extends Mocha.reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    let ended = 0;
    const failures = [];
    runner.on("test end", () => {
      ended += 1;
    });
    runner.on("fail", (test, error) => {
      failures.push({ title: test.titlePath().join(" › "), reason: reasonOf(error) });
    });
    runner.once("end", () => {
      const { passes: passed = 0, failures: failed = 0, pending = 0 } = runner.stats ?? {};
      if (process.env.TALLY_FILE !== undefined) {
        const untried = runner.total - ended;
        writeFileSync(process.env.TALLY_FILE, JSON.stringify({ passed, failed, pending, untried, failures }));
      }
    });
  }
};
