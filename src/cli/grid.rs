//! Columns of text under a header, each as wide as its widest cell.

use std::iter::once;

/// Spaces between two columns.
const GAP: usize = 3;

/// A line a row; every row must have as many cells as the header.
pub(super) fn grid(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let lines: Vec<Vec<String>> = once(header.iter().map(|&name| name.to_owned()).collect()).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<0$}", width + GAP));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_under_their_header() {
        let rows = [["80", "a"], ["443", "-"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(grid(&["PORT", "HOST"], rows.into_iter()), "PORT   HOST\n80     a\n443    -\n");
    }
}
