/** One line on a terminal's stderr that is redrawn in place; nothing where there is no terminal. */
import { systemClock } from "../core/wire/clock.ts";
import { type Progress, shownProgress } from "../shard-runtime/weights/progress.ts";

const BAR_WIDTH = 30;
const REDRAW_MS = 100;

export class ProgressBar {
  readonly #isTerminal = process.stderr.isTTY;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #drawn = false;

  show(progress: Progress): void {
    const { doneBytes, totalBytes } = progress;
    const filled = Math.round((BAR_WIDTH * doneBytes) / Math.max(1, totalBytes));
    this.line(`[${"#".repeat(filled).padEnd(BAR_WIDTH, "-")}] ${shownProgress(progress)}`);
  }

  /** Any text, cut to the width of the terminal. */
  line(text: string): void {
    const now = systemClock.monotonicMs();
    if (!this.#isTerminal || now - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = now;
    this.#drawn = true;
    process.stderr.write(`\r\x1b[K${text.slice(0, Math.max(20, process.stderr.columns - 1))}`);
  }

  clear(): void {
    if (this.#drawn) process.stderr.write("\r\x1b[K");
    this.#drawn = false;
    this.#drawnMs = Number.NEGATIVE_INFINITY;
  }
}
