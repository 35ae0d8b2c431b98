/** The demo model's chats as transformers continues them, for every test that asks the demo model something. */
import { readFileSync } from "node:fs";

export type Message = { readonly role: "system" | "user" | "assistant"; readonly content: string };

export type Golden = {
  readonly messages: readonly Message[];
  /** Without what comes after the end of the turn. */
  readonly answer: string;
  /** The prompt, through the chat template. */
  readonly tokenIds: readonly number[];
  /** Greedy, 64 of them, beyond the end of the turn. */
  readonly greedy: readonly number[];
  /** Whether the turn ends within those. */
  readonly ended: boolean;
};

export function chatGoldens(): readonly Golden[] {
  const file: { readonly prompts: readonly (Golden | { readonly text: string })[] } = JSON.parse(
    readFileSync("test/golden/demo/goldens.json", "utf8"),
  );
  return file.prompts.flatMap((prompt) => ("messages" in prompt ? [prompt] : []));
}

/** Those of one message: the question as asked, and the greedy tokens. */
export const demoQuestions = (): readonly { readonly prompt: string; readonly greedy: readonly number[] }[] =>
  chatGoldens().flatMap(({ messages: [first, ...rest], greedy }) =>
    first === undefined || rest.length > 0 ? [] : [{ prompt: first.content, greedy }],
  );
