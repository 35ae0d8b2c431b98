/** Every family that is served, in the order in which messages list them. */
import type { Family } from "../family.ts";
import { llama } from "./llama.ts";

export const FAMILIES: readonly Family[] = [llama];
