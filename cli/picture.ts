/** The picture of a plan for the terminal that we write to. */
import type { Placement } from "../operator/plan/types.ts";
import { ASCII, UNICODE, renderLines } from "../operator/plan/words/lines.ts";
import { type PictureStyle, pictureLines } from "../operator/plan/words/plan-words.ts";
import type { Known } from "../operator/plan/words/times.ts";
import { showsColour, showsUnicode, widthOf } from "./terminal.ts";

export type TerminalStyle = PictureStyle & { readonly colour: boolean };

/** As wide as asked or as standard output is, in what colours and letters it shows. */
export const terminalStyle = (widthAsked?: number): TerminalStyle => ({
  width: widthOf(process.stdout, process.env, widthAsked),
  charset: showsUnicode(process.env) ? UNICODE : ASCII,
  colour: showsColour(process.stdout, process.env),
});

export const planPicture = (world: Known, placement: Placement, style = terminalStyle()): string =>
  renderLines(pictureLines(world, placement, style), style.colour);
