/** Counts up when the same products or the same attention get other bits. Part of the drift class. */
export const PRODUCTS_VERSION = 1;
