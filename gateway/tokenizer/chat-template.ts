/** Messages to the one text that a chat model was trained on: the model's own Jinja template. */
import { type JsonObject, isJsonObject, parseJson, shown } from "../../core/json.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { type CompiledTemplate, compileTemplate } from "./jinja.ts";

/** What a request gives of a turn; templates may look for more, such as `tool_calls`. */
export type Message = {
  readonly role: string;
  readonly content: string;
  readonly name?: string;
  readonly [field: string]: unknown;
};

export type ChatTemplate = {
  /**
   * The prompt's text, special tokens in it, up to where the answer begins. `settings`: what the request passes to the
   * template (chat_template_kwargs); `now`: for templates that write the date. `TemplateRefused`: the template's own
   * word about these messages.
   */
  render(messages: readonly Message[], settings: JsonObject, now: Date): Result<string, "TemplateRefused">;
};

/**
 * The template in chat_template.jinja (`file`) or else in tokenizer_config.json. `NoChatTemplate`: the model has none and
 * is no chat model; `MalformedTemplate`: it has one that cannot be read.
 */
export function parseChatTemplate(
  file: string | undefined,
  configText: string,
): Result<ChatTemplate, "NoChatTemplate" | "MalformedTemplate"> {
  const parsed = parseJson(configText === "" ? "{}" : configText);
  const config = isJsonObject(parsed) ? parsed : {};
  const sources = file === undefined ? templatesIn(config["chat_template"]) : { chat: file };
  if (sources === undefined) {
    return refuse(
      "NoChatTemplate",
      "the model has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); use /v1/completions",
    );
  }
  let chat: CompiledTemplate;
  let toolUse: CompiledTemplate;
  try {
    chat = compileTemplate(sources.chat);
    toolUse = sources.toolUse === undefined ? chat : compileTemplate(sources.toolUse);
  } catch (error) {
    const where = file === undefined ? "tokenizer_config.json: chat_template" : "chat_template.jinja";
    return refuse("MalformedTemplate", `${where} cannot be read: ${messageOf(error)}; use /v1/completions`);
  }
  return ok({
    render: (messages, settings, now) =>
      render(settings["tools"] == null ? chat : toolUse, config, messages, settings, now),
  });
}

function render(
  template: CompiledTemplate,
  config: JsonObject,
  messages: readonly Message[],
  settings: JsonObject,
  now: Date,
): Result<string, "TemplateRefused"> {
  const specials = Object.entries(config)
    .filter(([key]) => key.endsWith("_token"))
    .map(([key, token]) => [key, isJsonObject(token) ? token["content"] : token] as const)
    .filter(([, token]) => typeof token === "string");
  try {
    // The template's own names go last, so that a request cannot replace the messages or a special token by its settings.
    const own = { ...Object.fromEntries(specials), messages, add_generation_prompt: true };
    return ok(template.render({ ...NOT_GIVEN, ...settings, ...own }, now));
  } catch (error) {
    return refuse("TemplateRefused", `the model's chat template refuses these messages: ${messageOf(error)}`);
  }
}

/** Transformers passes these always, so templates ask whether they are none, and not only whether they are defined. */
const NOT_GIVEN = { tools: null, documents: null };

/** A text, or a list of named ones: "default" is the one for chats, "tool_use" that for chats with tools. */
function templatesIn(value: unknown): { readonly chat: string; readonly toolUse?: string } | undefined {
  if (typeof value === "string") return { chat: value };
  if (!Array.isArray(value)) return undefined;
  const named = value.filter(isJsonObject);
  const textOf = (entry: JsonObject | undefined) =>
    typeof entry?.["template"] === "string" ? entry["template"] : undefined;
  const chat = textOf(named.find((entry) => entry["name"] === "default") ?? named[0]);
  const toolUse = textOf(named.find((entry) => entry["name"] === "tool_use"));
  return chat === undefined ? undefined : { chat, ...(toolUse === undefined ? {} : { toolUse }) };
}

const messageOf = (error: unknown): string => shown(error instanceof Error ? error.message : String(error));
