/** A link between two simulated nodes, and what is under way on it. */
import type { Message } from './message.ts';
import type { ModelState } from './model.ts';

/** A message under way: with what the model makes of it, fixed when it was captured. */
export interface Sent {
  readonly message: Message;
  readonly model: ModelState | null;
}

export interface Edge {
  /** Transactions of the log that were applied; survives a crash of the reader. */
  applied: number;
  /** Transactions that were taken from the log. */
  taken: number;
  underWay: { readonly transaction: number; readonly sent: readonly Sent[] }[];
}
