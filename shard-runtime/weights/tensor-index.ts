/** Where the tensors of a checkpoint lie, whatever kind of files it is made of. */
import type { TensorLookup } from "./formats/encoding.ts";

export interface TensorIndex extends TensorLookup {
  /** False where it is known, without reading any file's header, that no tensor of this name is there. */
  mayHold(name: string): boolean;
}
