//! Console blocks of the book.
