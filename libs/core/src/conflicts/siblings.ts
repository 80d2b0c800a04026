/** The open losers of a key as siblings of what stands under it: what a reader of the strategy vector-clock chooses from. Pure. */
import { parseLossless } from '../requests/lossless-json.ts';
import {
  versionView,
  type NameOfNode,
  type VersionColumns,
  type VersionView,
} from '../versioning/version-view.ts';
import { embeddingOfText, type EmbeddingView } from '../writes/embedding.ts';

export interface Sibling {
  readonly conflictId: string;
  readonly embedding: EmbeddingView | null;
  readonly metadata: unknown;
  readonly version: VersionView;
  /** The losing write was a delete. */
  readonly deleted?: true;
}

/** As SQL gives it. */
export interface SiblingJson extends VersionColumns {
  readonly id: string;
  readonly deleted: boolean;
  readonly row: { readonly embedding?: string | null; readonly metadata?: string | null } | null;
}

/** A JSON array of the open records of a key, oldest loser first. */
export const siblingsSql = (collection: string, key: string): string =>
  `coalesce((select jsonb_agg(jsonb_build_object('id', c.id, 'deleted', c.loser_deleted, 'row', c.loser_row, 'hlc', c.loser_hlc::text, 'origin', c.loser_origin, 'counter', c.loser_counter::text, 'clock', c.loser_clock)
     order by c.loser_hlc, c.loser_origin, c.loser_counter)
   from pgquorum.conflict c where c.collection = ${collection} and c.key = ${key} and c.state = 'open'), '[]')`;

export const siblingView = (sibling: SiblingJson, nameOf: NameOfNode): Sibling => ({
  conflictId: sibling.id,
  embedding: sibling.row?.embedding == null ? null : embeddingOfText(sibling.row.embedding),
  metadata: sibling.row?.metadata == null ? null : parseLossless(sibling.row.metadata),
  version: versionView(sibling, nameOf),
  ...(sibling.deleted ? { deleted: true } : {}),
});
