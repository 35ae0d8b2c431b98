/** Every family that is served, in the order in which messages list them. */
import type { Family } from "../family.ts";
import { gemma2 } from "./gemma2.ts";
import { gemma3Text } from "./gemma3-text.ts";
import { gptOss } from "./gpt-oss.ts";
import { granite } from "./granite.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { mixtral } from "./mixtral.ts";
import { olmo2 } from "./olmo2.ts";
import { phi3 } from "./phi3.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";
import { qwen3Moe } from "./qwen3-moe.ts";
import { smollm3 } from "./smollm3.ts";

export const FAMILIES: readonly Family[] = [
  llama,
  mistral,
  qwen2,
  qwen3,
  gemma2,
  gemma3Text,
  phi3,
  olmo2,
  granite,
  smollm3,
  mixtral,
  qwen3Moe,
  gptOss,
];

const PICTURES = "it reads pictures too, and only language models are served";

/** Types that people will try, and what they can do instead. */
export const NOT_SERVED: Readonly<Record<string, string>> = {
  gemma3: `${PICTURES}; save its language model alone (model_type "gemma3_text"): docs/families.md says how`,
  mistral3: `${PICTURES}; save its language model alone (model_type "mistral")`,
  mllama: `${PICTURES}; choose the Llama without "Vision" in its name`,
  qwen2_vl: `${PICTURES}; choose the Qwen without "VL" in its name`,
  qwen2_5_vl: `${PICTURES}; choose the Qwen without "VL" in its name`,
  qwen3_vl: `${PICTURES}; choose the Qwen without "VL" in its name`,
  phi4mm: `${PICTURES}; choose Phi-4-mini`,
};
