"""The styles and composers that have tokens, in the order of their tokens."""

from __future__ import annotations

# Append only: a tag's index gives its token, and checkpoints depend on tokens.
STYLES: tuple[str, ...] = (
    *("pop", "lied", "game", "classical", "folk", "chorale"),
    *("rock", "funk", "jazz", "latin", "hiphop", "soul", "afrobeat", "afrocuban", "country", "dance", "gospel"),
    *("highlife", "middleeastern", "neworleans", "punk", "reggae", "blues"),
)
COMPOSERS: tuple[str, ...] = (
    *("Schumann", "Lang", "Holmes", "Brahms", "Kinkel", "Reichardt", "Schubert", "Chaminade", "Cornelius", "Franz"),
    *("Hensel", "Faisst", "Schroter", "Lehmann", "Bizet", "Warlock", "Wolf", "Boulanger", "Debussy", "Faure"),
    *("Munktell", "Bridge", "Gonzaga", "Jaell", "Viardot", "Beethoven", "Chausson", "Haydn", "Parratt", "Satie"),
    *("Arne", "Beach", "Kralik", "Mendelssohn", "Paradis", "Somervell", "Zumsteeg", "Bach", "Chopin", "Handel"),
    *("Liszt", "Mozart", "Hummel", "Byrd", "Bartok", "Rachmaninoff", "Sullivan", "Tchaikovsky", "Scriabin", "Ravel"),
    *("Grieg", "Albeniz", "Stravinsky", "Corelli", "Scarlatti", "Vivaldi", "Shostakovich", "Verdi"),
)
