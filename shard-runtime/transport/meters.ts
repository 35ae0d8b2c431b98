/** What a rank counts about its work. The numbers are for looking, never for paying. */
export type Meters = {
  /** One batch ran: its steps, its rows, and how long the engine (exchanges included) took. */
  batch(stepCount: number, rowCount: number, seconds: number): void;
};

export const NO_METERS: Meters = { batch: () => {} };
