"""The pure core: decisions as functions of rows, facts as the only way rows change."""
