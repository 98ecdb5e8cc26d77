"""The paper's other experiments as jobs: edges, proposals, instances from boxes, text (section 7)."""
