/**
 * Text from token ids as they come. One character may be spread over several tokens (bytes of UTF-8), and decoders look
 * at neighbours (the first space of a text is dropped), so tokens cannot be decoded one by one. A short window of tokens
 * is decoded anew each time, and only what further tokens cannot change is let out.
 */

/** What a decoder puts where bytes are no character (yet). */
const REPLACEMENT = "\uFFFD";
/** Bytes that never become a character would grow the window without end; it is cut where that changes nothing. */
const WINDOW_MAX = 48;
/** A character has at most four bytes and a token at least one, so what lies further back is settled. */
const WINDOW_KEPT = 8;

export class Detokenizer {
  readonly #decode: (tokenIds: readonly number[]) => string;
  #window: number[] = [];
  #fresh = 0; // tokens of the window since its text was last whole
  #shown = ""; // the part of the window's text that is out already

  /** `decode`: the whole text of a list of ids, with U+FFFD for bytes that are no character. */
  constructor(decode: (tokenIds: readonly number[]) => string) {
    this.#decode = decode;
  }

  /** The text that this token adds: "" while a character is incomplete. Never ends inside a character. */
  push(tokenId: number): string {
    this.#window.push(tokenId);
    this.#fresh += 1;
    const text = this.#decode(this.#window);
    const whole = !text.endsWith(REPLACEMENT);
    // Only the last replacement can still become a character; those before it stay what they are.
    const settled = whole ? text : text.slice(0, -REPLACEMENT.length);
    const added = this.#advance(settled);
    if (whole && added !== "") this.#keepFresh();
    else if (this.#window.length > WINDOW_MAX) this.#cut(text);
    return added;
  }

  /** What is left once no more tokens come; an incomplete character comes out as U+FFFD. */
  flush(): string {
    const rest = this.#window.length === 0 ? "" : this.#advance(this.#decode(this.#window));
    this.#window = [];
    this.#fresh = 0;
    this.#shown = "";
    return rest;
  }

  #advance(text: string): string {
    if (text.length <= this.#shown.length) return "";
    const added = text.slice(this.#shown.length);
    this.#shown = text;
    return added;
  }

  /** The tokens of the last step stay as the context of the next one. */
  #keepFresh(): void {
    this.#window = this.#window.slice(-this.#fresh);
    this.#shown = this.#decode(this.#window);
    this.#fresh = 0;
  }

  #cut(text: string): void {
    const kept = this.#window.slice(-WINDOW_KEPT);
    const before = this.#decode(this.#window.slice(0, -WINDOW_KEPT));
    if (before + this.#decode(kept) !== text || before.length > this.#shown.length) return;
    this.#window = kept;
    this.#fresh = kept.length;
    this.#shown = this.#shown.slice(before.length);
  }
}
