/**
 * Which nodes hold a shard: the first of its preference, spread over zones. Pure.
 *
 * The most preferred node always is one of them, and comes first. Each further replica is the most preferred node of a zone that has the fewest
 * replicas so far, so that a zone is lost with as few replicas as can be, and a replica factor beyond the number of zones still fills up evenly.
 */
export function replicasOf(
  preference: readonly string[],
  { count, zoneOf }: { readonly count: number; readonly zoneOf: (node: string) => string },
): string[] {
  const left = [...preference];
  const chosen: string[] = [];
  const inZone = new Map<string, number>();
  while (chosen.length < count && left.length > 0) {
    const fewest = Math.min(...left.map((node) => inZone.get(zoneOf(node)) ?? 0));
    const at = left.findIndex((node) => (inZone.get(zoneOf(node)) ?? 0) === fewest);
    const [node] = left.splice(at, 1) as [string];
    chosen.push(node);
    inZone.set(zoneOf(node), fewest + 1);
  }
  return chosen;
}
