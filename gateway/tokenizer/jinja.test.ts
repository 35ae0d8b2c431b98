/** Templates are written for Python's Jinja; what each line here says was checked against jinja2 as transformers sets it up. */
import { expect } from "chai";
import { compileTemplate } from "./jinja.ts";

const NOW = new Date(2026, 0, 9, 14, 5, 7);
const rendered = (source: string, names = {}) => compileTemplate(source).render(names, NOW);

describe("templates run as Python runs them", () => {
  const cases: readonly (readonly [source: string, text: string])[] = [
    ["{{ true }} {{ none }} {{ missing }} {{ 1.0 }} {{ 2 }}", "True None  1.0 2"],
    ["{{ [1, 'a', none, 2.5] }} {{ {'k': [true]} }}", "[1, 'a', None, 2.5] {'k': [True]}"],
    [`{{ ["it's", 'say "x"', "a\\nb"] }}`, `["it's", 'say "x"', 'a\\nb']`],
    ["{{ 'a' ~ none ~ 1 ~ true }}", "aNone1True"],
    ["{{ none|string }}{{ {'a': 1}|string }}{{ ['X', true]|lower }}", "None{'a': 1}['x', true]"],
    ["{{ '1' == 1 }} {{ none == missing }} {{ true == 1 }} {{ [1, [2]] == [1, [2]] }}", "False False True True"],
    ["{{ {'a': 1} == {'a': 1} }} {{ {'a': 1} != {'a': 2} }}", "True True"],
    ["{{ 'b' in 'abc' }} {{ 'a' in {'a': 0} }} {{ [1] in [[1]] }} {{ 1 not in [2] }}", "True True True True"],
    ["{{ 'x' in missing }}", "False"],
    ["[{{ '\\n a \\n'.strip('\\n') }}] [{{ 'xxaxx'.lstrip('x') }}] [{{ 'a..'.rstrip('.') }}]", "[ a ] [axx] [a]"],
    ["[{{ ' \\ufeff '|trim }}] [{{ '\\x1c a\\x85'.strip() }}]", "[\ufeff] [a]"],
    ["{{ 'hELLO wORLD'|capitalize }} {{ 'aB'.capitalize() }}", "Hello world Ab"],
    ["{{ 'a-b'.removeprefix('a-') }} {{ 'a-b'.removesuffix('-b') }} {{ 'a\\nb\\n'.splitlines() }}", "b a ['a', 'b']"],
    ["{{ ['a', 'b', 1]|reject('equalto', 'a')|list }} {{ ['a', 1]|select('string')|join }}", "['b', 1] a"],
    ["{{ [{'a': 1}, none]|reject('none')|list }}", "[{'a': 1}]"],
    ["{{ 'abc'.find('c') }} {{ 'abc'.find('x') }}", "2 -1"],
    ["{% for i in range(3) %}{{ i }}{% endfor %} {{ range(5, 0, -2)|list }}", "012 [5, 3, 1]"],
    ["{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(none) }}{{ m('x') }}", "<None><x>"],
    ["{% set x %}{{ true }}{% endset %}{{ x }}{% if x == 'True' %}!{% endif %}", "True!"],
    ["{{ strftime_now('%d %b %Y') }} {{ strftime_now('%A %-d %B, %H:%M') }}", "09 Jan 2026 Friday 9 January, 14:05"],
    ["{{ strftime_now('%Y-%m-%d %I:%M %p %j %y %% %q') }}", "2026-01-09 02:05 PM 009 26 % %q"],
    ["{{ {'é': '<b>', 'n': none}|tojson }}", '{"é": "<b>", "n": null}'],
    ["{{ [{'a': []}]|tojson(indent=2) }}", '[\n  {\n    "a": []\n  }\n]'],
  ];
  for (const [source, text] of cases)
    it(source, () =>
      // Escapes of these sources are Python's and Jinja's own; a test in JavaScript writes them as characters.
      expect(
        rendered(source.replace("\\ufeff", "\ufeff").replace("\\x1c", "\u001c").replace("\\x85", "\u0085")),
      ).to.equal(text),
    );

  it("refuse what the sandbox refuses", () => {
    expect(() => rendered("{{ range(1000000) }}")).to.throw("Range too big");
    expect(() => rendered("{{ raise_exception('no') }}")).to.throw("no");
    expect(() => rendered("{{ missing.strip() }}")).to.throw("strip");
    expect(() => rendered("{{ 1 in 2 }}")).to.throw("IntegerValue");
  });

  it("cannot call what stands behind an operator", () => {
    expect(rendered("{{ x }}", { x: "| string" })).to.equal("| string");
    expect(() => rendered("", { "| string": "mine" })).to.throw("already declared");
  });
});
