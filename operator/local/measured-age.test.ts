import { expect } from "chai";
import { measuredDaysAgo } from "./measured-age.ts";

describe("the age of measurements", () => {
  const now = Date.parse("2026-03-10T12:00:00Z");
  const cases: readonly { readonly time: string | undefined; readonly days: number | undefined }[] = [
    { time: "2026-03-10T11:00:00Z", days: 0 },
    { time: "2026-01-29T12:00:00Z", days: 40 },
    { time: "2026-03-11T12:00:00Z", days: undefined },
    { time: undefined, days: undefined },
  ];
  for (const { time, days } of cases)
    it(`${time ?? "no time"}: ${days ?? "not known"}`, () => {
      const measured = time === undefined ? {} : { time };
      expect(measuredDaysAgo({ status: { measured } }, now)).to.equal(days);
    });
});
