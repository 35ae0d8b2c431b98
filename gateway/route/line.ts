/** The line of requests that wait for a slot of one model: first come, first served, and of bounded length. */

export type Ticket = {
  readonly number: number; // in order of arrival; kept when a request has to wait again
  readonly resumed: boolean; // its answer had begun when its chain was lost: it goes before new ones
};

/** In the order in which they are served. */
export type Line = readonly Ticket[];

/** The line with `ticket` at its place. */
export const joined = (line: Line, ticket: Ticket): Line =>
  [...line, ticket].toSorted((a, b) => Number(b.resumed) - Number(a.resumed) || a.number - b.number);

export const left = (line: Line, ticket: Ticket): Line => line.filter((other) => other.number !== ticket.number);

/** Whether more new requests wait than may. Resumed ones do not count: they held a slot a moment ago. */
export const overfull = (line: Line, maxQueue: number): boolean =>
  line.filter((ticket) => !ticket.resumed).length > maxQueue;
