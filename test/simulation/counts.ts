/** What happened in a history, to see that histories are worth playing. */
export const noCounts = () => ({
  writes: 0,
  operations: 0,
  undone: 0,
  conflicts: 0,
  closed: 0,
  restored: 0,
  resolved: 0,
  repeats: 0,
  wholeWithLosers: 0,
  equalHlcs: 0,
  purged: 0,
  returned: 0,
});
